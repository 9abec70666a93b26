"""The drawn pictures as files: a small download in Track 1's raw layout, test labels beside it."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from shards.drawings.roads import KINDS, draw_road
from shards.drawings.signs import SHAPES, SIZE, Sign, draw_signs
from shards.drawings.silhouettes import VEHICLES
from shards.drawings.vehicles import draw_vehicle
from shards.layouts.track1 import IMAGE_FOLDERS, SEG_NAMES
from ufo_ds.data.schema import SPLITS, TASKS
from ufo_ds.errors import UserError

TRAIN_IMAGES = {"cls": 960, "det": 480, "seg": 320}
"""So many are drawn for training unless the user says another number."""
SURFACES = 6
"""So many kinds of surfaces are drawn unless the user says another number."""
SIGN_IDS = (2, 5, 7, 11, 12, 17, 20, 23)
"""Category ids with holes, as real data sets have them."""
JPEG_QUALITY = 92
PARTS = ("track1_train_data", "track1_test_data", "test_labels")
"""All that a download consists of."""


@dataclass(frozen=True)
class Contents:
    """What to draw.

    Attributes:
        tasks: of `cls`, `det`, `seg`.
        images: for training, a task; None for `TRAIN_IMAGES`.
        seed: of everything.
        cls_classes: how many kinds of vehicles.
        det_classes: how many kinds of signs.
        seg_classes: how many kinds of surfaces, with ids 0..K-1 and a `classes.txt`; None for `SURFACES` of
            them, under Track 1's ids.
    """

    tasks: tuple[str, ...] = TASKS
    images: int | None = None
    seed: int = 0
    cls_classes: int = 6
    det_classes: int = 4
    seg_classes: int | None = None

    def __post_init__(self) -> None:
        limits = {"cls": len(VEHICLES), "det": len(SHAPES), "seg": len(KINDS)}
        wanted = {"cls": self.cls_classes, "det": self.det_classes, "seg": self.seg_classes or SURFACES}
        for task, number in wanted.items():
            if not 2 <= number <= limits[task]:
                raise UserError(f"--{task}-classes {number}: choose 2 to {limits[task]}, so many kinds are drawn")

    def count(self, task: str, split: str) -> int:
        """Images of a split; enough for testing even where few are drawn for training."""
        train = self.images or TRAIN_IMAGES[task]
        return {"train": train, "val": max(40, train // 5), "test": max(120, train // 5)}[split]

    @property
    def vehicles(self) -> list[str]:
        """Classes of cls, by id."""
        return list(VEHICLES)[: self.cls_classes]

    @property
    def signs(self) -> dict[str, int]:
        """Classes of det -> category id."""
        return dict(zip(SHAPES, SIGN_IDS[: self.det_classes], strict=False))

    @property
    def surfaces(self) -> dict[str, int]:
        """Classes of seg -> mask value."""
        if self.seg_classes:
            return {kind: number for number, kind in enumerate(KINDS[: self.seg_classes])}
        return {kind: SEG_NAMES.index(kind) for kind in KINDS[:SURFACES]}


@dataclass(frozen=True)
class Picture:
    """One picture to be drawn under `root`; goes to a worker process."""

    contents: Contents
    root: Path
    task: str
    split: str
    index: int

    @property
    def stem(self) -> str:
        """Numbered through all splits of a task from 1, as in the challenge."""
        before = sum(self.contents.count(self.task, split) for split in SPLITS[: SPLITS.index(self.split)])
        return f"{before + self.index + 1:05d}"

    @property
    def rng(self) -> np.random.Generator:
        """A generator of its own, so that no picture depends on another."""
        return np.random.default_rng((self.contents.seed, TASKS.index(self.task), SPLITS.index(self.split), self.index))


def draw_picture(picture: Picture, tick: Callable[[int], object]) -> Any:
    """Draw a picture, write its image (and mask); returns its label: a class id, signs, None for a mask."""
    cv2.setNumThreads(1)  # small pictures, and as many processes as cores
    contents, label = picture.contents, None
    if picture.task == "cls":
        label = picture.index % contents.cls_classes
        image, _ = draw_vehicle(picture.rng, contents.vehicles[label])
    elif picture.task == "det":
        image, label = draw_signs(picture.rng, list(contents.signs))
    else:
        image, mask = draw_road(picture.rng, contents.surfaces)
        _write_image(_mask_folder(picture.root, picture.split) / f"{picture.stem}.png", mask)
    _write_image(picture.root / IMAGE_FOLDERS[picture.task][picture.split] / f"{picture.stem}.jpg", image)
    tick(1)
    return label


def pictures(contents: Contents, root: Path) -> list[Picture]:
    """Every picture of a download."""
    return [
        Picture(contents, root, task, split, index)
        for task in contents.tasks
        for split in SPLITS
        for index in range(contents.count(task, split))
    ]


def make_folders(contents: Contents, root: Path) -> None:
    """The folders that the pictures go to."""
    for task in contents.tasks:
        for split in SPLITS:
            (root / IMAGE_FOLDERS[task][split]).mkdir(parents=True)
            if task == "seg":
                _mask_folder(root, split).mkdir(parents=True)
    (root / "test_labels").mkdir(exist_ok=True)


def write_labels(contents: Contents, root: Path, labelled: Iterable[tuple[Picture, Any]]) -> None:
    """Write the lists, JSON files and class names that go with the pictures drawn."""
    labels: dict[tuple[str, str], list[tuple[str, Any]]] = {}
    for picture, label in labelled:
        labels.setdefault((picture.task, picture.split), []).append((picture.stem, label))
    first_id = 1
    for (task, split), items in labels.items():
        if task == "cls":
            _write(
                _label_path(root, "cls", split, "txt"),
                "".join(f"{stem}.jpg {label}\n" for stem, label in items),
            )
        elif task == "det":
            # The challenge names a test image by its line; the others are numbered through.
            _write_coco(contents, _label_path(root, "det", split, "json"), items, 1 if split == "test" else first_id)
            first_id += len(items)
    train_data = root / "track1_train_data"
    if "cls" in contents.tasks:
        _write(train_data / "cls/classes.txt", "".join(f"{name}\n" for name in contents.vehicles))
    if "det" in contents.tasks:
        names = (f"{stem}.jpg\n" for stem, _ in labels["det", "test"])
        _write(root / "track1_test_data/dec/test.txt", "".join(names))
    if "seg" in contents.tasks and contents.seg_classes:
        _write(train_data / "seg/classes.txt", "".join(f"{name}\n" for name in contents.surfaces))


def _label_path(root: Path, task: str, split: str, suffix: str) -> Path:
    if split == "test":
        return root / f"test_labels/{task}.{suffix}"
    return (root / IMAGE_FOLDERS[task][split]).with_suffix(f".{suffix}")


def _mask_folder(root: Path, split: str) -> Path:
    return root / "test_labels/seg" if split == "test" else root / f"track1_train_data/seg/label/{split}"


def _write_coco(contents: Contents, path: Path, items: list[tuple[str, list[Sign]]], first_id: int) -> None:
    images = [
        {"id": number, "file_name": f"{stem}.jpg", "width": SIZE, "height": SIZE}
        for number, (stem, _) in enumerate(items, start=first_id)
    ]
    categories = [{"id": class_id, "name": name} for name, class_id in contents.signs.items()]
    annotations = list(_annotations(contents, items, first_id))
    _write(path, json.dumps({"images": images, "annotations": annotations, "categories": categories}))


def _annotations(contents: Contents, items: list[tuple[str, list[Sign]]], first_id: int) -> Iterator[dict]:
    number = 0
    for image_id, (_, signs) in enumerate(items, start=first_id):
        for sign in signs:
            number += 1
            _, _, width, height = sign.bbox
            yield {"id": number, "image_id": image_id, "category_id": contents.signs[sign.kind],
                   "bbox": list(sign.bbox), "area": round(width * height, 2), "iscrowd": 0}  # fmt: skip


def _write(path: Path, text: str) -> None:
    path.write_text(text, encoding="utf-8")


def _write_image(path: Path, image: np.ndarray) -> None:
    """Write RGB [H, W, 3] or labels [H, W], both uint8."""
    options = [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY] if path.suffix == ".jpg" else []
    # Encoded in memory: OpenCV's own writer answers a full disk with no more than False.
    _, data = cv2.imencode(path.suffix, image[..., ::-1] if image.ndim == 3 else image, options)
    path.write_bytes(data.tobytes())
