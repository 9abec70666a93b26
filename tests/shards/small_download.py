"""A small Track 1 download, made on the fly, that a test can spoil."""

import io
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from shards.build import main
from ufo_ds.data.schema import TaskMeta
from ufo_ds.errors import UserError

ROOT = Path(__file__).resolve().parents[2]
WIDTH, HEIGHT = 40, 30


def jpeg(seed, size=(WIDTH, HEIGHT), **options):
    """The bytes of a JPEG that no other seed gives."""
    pixels = np.random.default_rng(seed).integers(0, 256, (size[1], size[0], 3), np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "JPEG", **options)
    return file.getvalue()


def png(pixels, mode=None):
    file = io.BytesIO()
    image = Image.fromarray(pixels)
    if mode == "P":
        image = Image.fromarray(pixels).convert("L")
        image.putpalette([value for index in range(256) for value in (index, 0, 255 - index)])
    image.save(file, "PNG")
    return file.getvalue()


class Download:
    """A raw download of three tasks: 7 train, 3 val, 2 test images each."""

    def __init__(self, folder):
        self.counts = {"train": 7, "val": 3, "test": 2}
        self.raw, self.out = folder / "raw", folder / "out"
        self.data, self.test = self.raw / "track1_train_data", self.raw / "track1_test_data"
        for split, count in self.counts.items():
            names = [f"{split}_{number}.jpg" for number in range(count)]
            self._cls(split, names)
            self._det(split, names)
            self._seg(split, names)

    def _images(self, folder, names):
        folder.mkdir(parents=True)
        for number, name in enumerate(names):
            (folder / name).write_bytes(jpeg([number, *str(folder).encode()]))

    def _cls(self, split, names):
        self._images((self.test if split == "test" else self.data) / "cls" / split, names)
        if split != "test":
            lines = [f"{name} {number % 5}\n" for number, name in enumerate(names)]
            (self.data / f"cls/{split}.txt").write_text("".join(lines))

    def _det(self, split, names):
        self._images((self.test if split == "test" else self.data) / "dec" / split, names)
        if split == "test":
            (self.test / "dec/test.txt").write_text("".join(f"{name}\n" for name in reversed(names)))
            return
        images = [{"id": 10 + number, "file_name": name, "width": WIDTH, "height": HEIGHT}
                  for number, name in enumerate(names)]  # fmt: skip
        annotations = [{"id": 100 + number, "image_id": 10 + number, "category_id": (3, 8)[number % 2],
                        "bbox": [1, 2.5, 10, 12], "secret": 1} for number in range(len(names) - 1)]  # fmt: skip
        categories = [{"id": 8, "name": "b", "supercategory": "x"}, {"id": 3, "name": "a"}]
        self.write_json(split, {"images": images, "annotations": annotations, "categories": categories})

    def _seg(self, split, names):
        base = self.test if split == "test" else self.data
        self._images(base / "seg/images" / split, names)
        if split != "test":
            (self.data / "seg/label" / split).mkdir(parents=True)
            for number, name in enumerate(names):
                mask = np.full((HEIGHT, WIDTH), number % 19, np.uint8)
                mask[0] = 255
                self.mask(split, name).write_bytes(png(mask))

    def image(self, task, split, name):
        """Path of an image."""
        base = self.test if split == "test" else self.data
        return base / {"cls": "cls", "det": "dec", "seg": "seg/images"}[task] / split / name

    def mask(self, split, name):
        return self.data / "seg/label" / split / f"{Path(name).stem}.png"

    def json(self, split="train"):
        return json.loads((self.data / f"dec/{split}.json").read_text())

    def write_json(self, split, value):
        (self.data / f"dec/{split}.json").write_text(value if isinstance(value, str) else json.dumps(value))

    def edit_json(self, change, split="train"):
        value = self.json(split)
        change(value)
        self.write_json(split, value)

    def build(self, *options, out=None):
        """Build in this process; returns the folder of the shards."""
        out = out or self.out
        main(["--layout", "track1", "--raw", str(self.raw), "--out", str(out), "--workers", "1", *options])
        return out

    def fail(self, *options):
        """Build in this process, which must end with a `UserError`; returns its line."""
        with pytest.raises(UserError) as error:
            self.build(*options)
        return str(error.value)

    def meta(self, task):
        return TaskMeta.read(self.out, task)
