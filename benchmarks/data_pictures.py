"""What benchmarks/data.py reads: bytes and pictures from a seed, alone or as a small Track 1 download."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np

Sample = dict[str, bytes]
QUALITY = [cv2.IMWRITE_JPEG_QUALITY, 90]


class Scenes:
    """Pictures with structure at every scale, about as large as photographs when encoded: parts of a few large ones."""

    def __init__(self, seed: int, side: int = 2304) -> None:
        self.generator = np.random.default_rng(seed)
        self.side = side
        self._sheets = [self._sheet() for _ in range(3)]

    def _sheet(self) -> np.ndarray:
        sheet = np.full((self.side, self.side, 3), 120, np.float32)
        for cell in (2, 4, 8, 32, 128):
            cells = -(-self.side // cell)
            noise = self.generator.normal(0, 2.2 * cell**0.55, (cells, cells, 3)).astype(np.float32)
            sheet += cv2.resize(noise, (self.side, self.side), interpolation=cv2.INTER_CUBIC)
        return sheet.clip(0, 255).astype(np.uint8)

    def picture(self, height: int, width: int) -> np.ndarray:
        """BGR uint8 [height, width, 3]."""
        sheet = self._sheets[int(self.generator.integers(len(self._sheets)))]
        if max(height, width) > self.side:  # a larger one: no finer than a sheet
            return cv2.resize(sheet, (width, height), interpolation=cv2.INTER_CUBIC)
        top, left = (int(self.generator.integers(self.side - part + 1)) for part in (height, width))
        return sheet[top : top + height, left : left + width]

    def jpeg(self, height: int, width: int) -> bytes:
        """A file."""
        return cv2.imencode(".jpg", self.picture(height, width), QUALITY)[1].tobytes()

    def sizes(self, low: int, high: int) -> tuple[int, int]:
        """A random (height, width)."""
        height, width = self.generator.integers(low, high, 2).tolist()
        return height, width


def random_payloads(count: int, seed: int) -> Iterator[Sample]:
    """Incompressible bytes of sizes like those of JPEGs: log-normal, median 50 kB, 4 kB to 1 MB."""
    generator = np.random.default_rng(seed)
    for size in (50e3 * np.exp(generator.normal(0, 0.8, count))).clip(4e3, 1e6).astype(int).tolist():
        yield {"jpg": generator.bytes(size), "cls": str(size % 1000).encode()}


def drawn_pictures(count: int, seed: int) -> Iterator[Sample]:
    """JPEGs with sides of 200 to 640 pixels."""
    scenes = Scenes(seed)
    for number in range(count):
        yield {"jpg": scenes.jpeg(*scenes.sizes(200, 640)), "cls": str(number % 1000).encode()}


def write_download(raw: Path, cls: int, det: int, seg: int, seed: int) -> Path:
    """So many training images of each task: 400-900 pixels; 2048 x 2048 with signs; 720 x 1280 with masks."""
    scenes, train = Scenes(seed), raw / "track1_train_data"
    for folder in ("cls/train", "dec/train", "seg/images/train", "seg/label/train"):
        (train / folder).mkdir(parents=True)
    for number in range(cls):
        (train / "cls/train" / f"{number:05d}.jpg").write_bytes(scenes.jpeg(*scenes.sizes(400, 900)))
    names = [f"{number:05d}.jpg {number % 196}\n" for number in range(cls)]
    (train / "cls/train.txt").write_text("".join(names))
    images, annotations = [], []
    for number in range(det):
        (train / "dec/train" / f"{number:05d}.jpg").write_bytes(scenes.jpeg(2048, 2048))
        images.append({"id": number, "file_name": f"{number:05d}.jpg", "width": 2048, "height": 2048})
        for x, y, side in scenes.generator.integers(20, 1900, (8, 3)).tolist():
            box = [x, y, min(side / 10, 2048 - x), min(side / 10, 2048 - y)]
            annotations.append({"id": len(annotations), "image_id": number, "category_id": 1, "bbox": box,
                                "area": box[2] * box[3], "iscrowd": 0})  # fmt: skip
    categories = [{"id": 1, "name": "sign"}]
    (train / "dec/train.json").write_text(
        json.dumps({"images": images, "annotations": annotations, "categories": categories})
    )
    for number in range(seg):
        (train / "seg/images/train" / f"{number:05d}.jpg").write_bytes(scenes.jpeg(720, 1280))
        (train / "seg/label/train" / f"{number:05d}.png").write_bytes(_mask(scenes.generator))
    return raw


def _mask(generator: np.random.Generator) -> bytes:
    """A PNG of 720 x 1280 with the 19 ids in large shapes of smooth outline, as street scenes have."""
    relief = cv2.resize(generator.normal(size=(9, 16)), (1280, 720), interpolation=cv2.INTER_CUBIC)
    return cv2.imencode(".png", ((relief - relief.min()) * 18.99 / np.ptp(relief)).astype(np.uint8))[1].tobytes()
