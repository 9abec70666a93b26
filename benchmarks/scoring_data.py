"""What benchmarks/scoring.py scores: ground truth and predictions of the challenge's size, from a seed.

Masks are smoothed noise, one field a class and the strongest wins, with poles, lines and specks on top: about as many
contours and points as the masks of BDD100K have. A prediction is its truth seen through a slightly other noise. The
images' numbers seed them, so a smaller scale is a part of the whole.
"""

from __future__ import annotations

import json
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context
from pathlib import Path

import cv2
import numpy as np
from PIL import Image

HEIGHT, WIDTH = 720, 1280
CLS_IMAGES, DET_IMAGES, SEG_IMAGES = 8041, 3067, 1000
CLS_CLASSES, DET_CLASSES, SEG_CLASSES = 196, 45, 19
BOXES = 100
"""Found boxes an image."""


def make_data(folder: Path, scale: float, seed: int, processes: int, masks: Path | None = None) -> None:
    """Write the ground truth (`cls.txt`, `det.json`, `seg/*.png`) and `predictions/` to `folder`.

    Args:
        folder: is made.
        scale: share of the challenge's images.
        seed: other data.
        processes: that draw masks.
        masks: a folder of label PNGs to use in place of drawn ones, over and over until there are enough.
    """
    cls, det, seg = (max(2, round(scale * count)) for count in (CLS_IMAGES, DET_IMAGES, SEG_IMAGES))
    predictions = folder / "predictions"
    (folder / "seg").mkdir(parents=True)
    (predictions / "seg").mkdir(parents=True)
    rng = np.random.default_rng([seed, 1])
    truth, found = rng.integers(0, CLS_CLASSES, (2, cls))
    found = np.where(rng.random(cls) < 0.9, truth, found)
    lines = [f"{number:05d}.jpg {label}\n" for number, label in enumerate(truth.tolist(), start=1)]
    (folder / "cls.txt").write_text("".join(lines))
    np.save(predictions / "cls.npy", found)
    _make_boxes(folder, det, seed)
    paths = sorted(masks.glob("*.png")) if masks else []
    draw = partial(_make_mask, folder, seed, paths)
    with ProcessPoolExecutor(processes, get_context("spawn")) as pool:
        list(pool.map(draw, range(seg), chunksize=8))


def _make_boxes(folder: Path, images: int, seed: int) -> None:
    """About five signs an image, four in five of them found, the other boxes anywhere and weak."""
    annotations, columns = [], []
    for image in range(1, images + 1):
        rng = np.random.default_rng([seed, 2, image])
        count = rng.poisson(5)
        sizes = np.exp(rng.normal(3.3, 0.7, (BOXES + count, 2)))
        boxes = np.concatenate([rng.random((BOXES + count, 2)) * (WIDTH, HEIGHT) * 0.9, sizes], axis=1)
        categories = rng.choice(DET_CLASSES, BOXES + count, p=_SHARES) + 1
        scores = rng.random(BOXES + count) ** 8 * 0.7
        truth, found = np.round(boxes[:count], 2), boxes[count:]
        hits = np.flatnonzero(rng.random(count) < 0.8)
        found[: len(hits)] = boxes[hits] + rng.normal(0, 0.08, (len(hits), 4)) * boxes[hits][:, [2, 3, 2, 3]]
        found[:, 2:] = np.maximum(found[:, 2:], 1)
        labels = categories[count:]
        labels[: len(hits)] = np.where(rng.random(len(hits)) < 0.9, categories[hits], labels[: len(hits)])
        scores[count : count + len(hits)] = rng.random(len(hits))
        columns.append((found, labels, scores[count:]))
        annotations += [
            {"id": len(annotations) + i + 1, "image_id": image, "category_id": category, "bbox": box, "iscrowd": 0,
             "area": box[2] * box[3]}
            for i, (box, category) in enumerate(zip(truth.tolist(), categories[:count].tolist(), strict=True))
        ]  # fmt: skip
    sides = [{"id": i, "file_name": f"{i:05d}.jpg", "width": WIDTH, "height": HEIGHT} for i in range(1, images + 1)]
    categories = [{"id": i, "name": f"sign {i}"} for i in range(1, DET_CLASSES + 1)]
    value = {"images": sides, "annotations": annotations, "categories": categories}
    (folder / "det.json").write_text(json.dumps(value))
    boxes, labels, scores = (np.stack(column) for column in zip(*columns, strict=True))
    np.savez(folder / "predictions" / "det.npz", boxes_xywh=boxes, labels=labels, scores=scores.astype(np.float32))


_SHARES = np.arange(1, DET_CLASSES + 1) ** -0.7 / (np.arange(1, DET_CLASSES + 1) ** -0.7).sum()


def _make_mask(folder: Path, seed: int, paths: list[Path], number: int) -> None:
    cv2.setNumThreads(1)
    rng = np.random.default_rng([seed, 3, number])
    if paths:
        truth = cv2.imread(str(paths[number % len(paths)]), cv2.IMREAD_GRAYSCALE)
        found = _shifted(np.where(truth == 255, 0, truth).astype(np.uint8), rng)
    else:
        truth, found = _drawn(rng)
    Image.fromarray(truth).save(folder / "seg" / f"{number:05d}.png")
    np.save(folder / "predictions" / "seg" / f"{number:05d}.npy", found)


def _drawn(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """A truth with ignored pixels, and a prediction near it: uint8 [H, W] each."""
    classes = rng.permutation(SEG_CLASSES)[: rng.integers(7, 12)]
    best = np.full((2, HEIGHT, WIDTH), -9, np.float32)
    masks = np.zeros((2, HEIGHT, WIDTH), np.uint8)
    fine = _noise(rng, (30, 54))
    for rank, class_id in enumerate(classes.tolist()):
        coarse = _noise(rng, (3, 5)) + 0.04 * np.roll(fine, 97 * rank, (0, 1)) - 0.05 * rank
        for i, field in enumerate((coarse, coarse + 0.25 * _noise(rng, (6, 10)))):
            stronger = field > best[i]
            best[i][stronger] = field[stronger]
            masks[i][stronger] = class_id
    for mask in masks:
        shared = np.random.default_rng(int(classes[0]))  # the same poles and lines in both
        for _ in range(12):
            x, y, length, width = shared.integers((0, 0, 20, 1), (WIDTH, HEIGHT, 300, 4)).tolist()
            tilt, class_id = shared.integers(-12, 12), int(shared.choice(classes))
            cv2.line(mask, (x, y), (x + int(tilt), y + length), class_id, width)
        for _ in range(20):  # specks, other ones
            centre = (int(rng.integers(WIDTH)), int(rng.integers(HEIGHT)))
            cv2.circle(mask, centre, int(rng.integers(0, 6)), int(rng.choice(classes)), -1)
    masks[0][_noise(rng, (3, 5)) > 1.5] = 255
    return masks[0], masks[1]


def _shifted(mask: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """The mask with its edges moved by a few pixels."""
    height, width = mask.shape
    y, x = np.indices(mask.shape, np.float32)
    move = [3 * cv2.resize(rng.normal(size=(18, 32)).astype(np.float32), (width, height)) for _ in range(2)]
    return cv2.remap(mask, x + move[0], y + move[1], cv2.INTER_NEAREST, borderMode=cv2.BORDER_REPLICATE)


def _noise(rng: np.random.Generator, size: tuple[int, int]) -> np.ndarray:
    return cv2.resize(rng.normal(size=size).astype(np.float32), (WIDTH, HEIGHT), interpolation=cv2.INTER_CUBIC)
