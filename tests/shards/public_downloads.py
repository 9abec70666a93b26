"""Miniatures of public downloads, made on the fly, that a test can spoil."""

import json
from types import MappingProxyType

import numpy as np
import pytest
import scipy.io
from PIL import Image
from small_download import HEIGHT, WIDTH, jpeg, png

from shards.build import main
from shards.layouts.bdd100k import COLOURS
from ufo_ds.data.schema import TaskMeta
from ufo_ds.errors import UserError


class PublicDownload:
    """What they have in common: the layout's name, the folders, building."""

    layout = task = ""

    def __init__(self, folder):
        self.raw, self.out = folder / "raw", folder / "out"
        self.make()

    def images(self, folder, names):
        (self.raw / folder).mkdir(parents=True, exist_ok=True)
        for number, name in enumerate(names):
            (self.raw / folder / name).write_bytes(jpeg([number, *f"{folder}/{name}".encode()]))

    def build(self, *options):
        """Build in this process; the task's meta."""
        places = ["--raw", str(self.raw), "--out", str(self.out), "--workers", "1"]
        main(["--layout", self.layout, *places, *options])
        return TaskMeta.read(self.out, self.task)

    def fail(self, *options):
        """Build in this process, which must end with a `UserError`; its line."""
        with pytest.raises(UserError) as error:
            self.build(*options)
        return str(error.value)


def matrix(value):
    """A number or text as MATLAB keeps it: numbers in the smallest type, as a 1 x 1 matrix."""
    return value if isinstance(value, str) else np.array([[value]], np.uint8 if value < 256 else np.uint16)


def annotations(rows):
    """Dicts as MATLAB's 1 x N structure array."""
    records = np.empty((1, len(rows)), [(key, object) for key in rows[0]])
    for number, row in enumerate(rows):
        for key, value in row.items():
            records[key][0, number] = matrix(value)
    return records


def cell(texts):
    """Texts as MATLAB's 1 x N cell array."""
    value = np.empty((1, len(texts)), object)
    value[0] = texts
    return value


BOX = {"bbox_x1": 3, "bbox_y1": 5, "bbox_x2": 300, "bbox_y2": 20}


class Cars(PublicDownload):
    """Stanford Cars with the development kit: 7 train and 5 test images of 4 models."""

    layout, task = "stanford_cars", "cls"
    NAMES = ("AM General Hummer SUV 2000", "Acura RL Sedan 2012", "Ram C/V Cargo Van Minivan 2012", "Citroën C4")

    def make(self):
        self.images("cars_train", [f"{number:05d}.jpg" for number in range(1, 8)])
        self.images("cars_test", [f"{number:05d}.jpg" for number in range(1, 6)])
        (self.raw / "devkit").mkdir()
        self.meta()
        self.train = [{**BOX, "class": number % 4 + 1, "fname": f"{number:05d}.jpg"} for number in range(1, 8)]
        self.test = [{**BOX, "class": number % 4 + 1, "fname": f"{number:05d}.jpg"} for number in range(1, 6)]
        self.save()

    def meta(self, names=NAMES, path="devkit/cars_meta.mat"):
        scipy.io.savemat(self.raw / path, {"class_names": cell(names)}, do_compression=True)

    def save(self, labels="cars_test_annos_withlabels.mat"):
        """Write the lists; `labels`: where those of the test images go, None where they are kept back."""
        bare = [{key: value for key, value in row.items() if key != "class"} for row in self.test]
        tables = {"devkit/cars_train_annos.mat": self.train, "devkit/cars_test_annos.mat": bare}
        if labels:
            tables[labels] = self.test
        for name, rows in tables.items():
            scipy.io.savemat(self.raw / name, {"annotations": annotations(rows)}, do_compression=True)


class CarsArchive(PublicDownload):
    """Stanford Cars as one archive: 6 train and 3 test images of 4 models."""

    layout, task = "stanford_cars", "cls"

    def make(self):
        names = [f"{number:06d}.jpg" for number in range(1, 10)]
        self.images("car_ims", names)
        self.rows = [
            {"relative_im_path": f"car_ims/{name}", **BOX, "class": number % 4 + 1, "test": int(number % 3 == 2)}
            for number, name in enumerate(names)
        ]
        self.save()

    def save(self):
        value = {"annotations": annotations(self.rows), "class_names": cell(Cars.NAMES)}
        scipy.io.savemat(self.raw / "cars_annos.mat", value, do_compression=True)


class Signs(PublicDownload):
    """TT100K of 2016: 6 train, 4 test and 2 other images; the classes pl5, pl40, w13 of the 45, and w30 and p17."""

    layout, task = "tt100k", "det"
    TYPES = ("w30", "w13", "pl5", "pl40", "p17")
    FILE = "data/annotations.json"

    def make(self):
        self.value = {"imgs": {}, "types": list(self.TYPES)}
        ids = {"train": [10, 100, 11, 12, 7, 99999], "test": [2, 31, 30, 4], "other": [50, 51]}
        for folder, numbers in ids.items():
            self.images(f"data/{folder}", [f"{number}.jpg" for number in numbers])
            if folder != "other":
                (self.raw / f"data/{folder}/ids.txt").write_text("".join(f"{number}\n" for number in numbers))
            for place, number in enumerate(numbers):
                signs = [] if folder == "other" else [self.sign(self.TYPES[(place + k) % 5]) for k in range(place % 4)]
                entry = {"path": f"{folder}/{number}.jpg", "objects": signs, "id": number}
                self.value["imgs"][str(number)] = entry
        self.save()

    @staticmethod
    def sign(category, box=(2.5, 3, 14, 21.25)):
        corners = dict(zip(("xmin", "ymin", "xmax", "ymax"), box, strict=True))
        return {"bbox": corners, "category": category, "polygon": [[2.5, 3.0], [14.0, 3.0], [9.0, 21.25]],
                "ellipse": [[8.0, 12.0], [5.0, 9.0], 88.5], "ellipse_org": [[2.5, 12.0], [14.0, 12.0]]}  # fmt: skip

    def save(self):
        (self.raw / self.FILE).write_text(json.dumps(self.value))


class Scenes(PublicDownload):
    """BDD100K's 10k images with masks of train ids: 5 train, 3 val, 2 test images."""

    layout, task = "bdd100k", "seg"
    COUNTS = MappingProxyType({"train": 5, "val": 3, "test": 2})
    IMAGES, MASKS, COLOURS = "images/10k", "labels/sem_seg/masks", "labels/sem_seg/colormaps"
    TAIL = COLOUR_TAIL = ""

    def make(self):
        self.ids = {}
        for split, count in self.COUNTS.items():
            stems = [f"{split[0]}a{number}-00000000" for number in range(count)]
            self.images(f"{self.IMAGES}/{split}", [f"{stem}.jpg" for stem in stems])
            for number, stem in enumerate(stems if split != "test" else ()):
                ids = np.full((HEIGHT, WIDTH), number % 19, np.uint8)
                ids[:19, 0], ids[0, 1] = np.arange(19), 255
                self.ids[split, stem] = ids
                self.write(f"{self.MASKS}/{split}/{stem}{self.TAIL}.png", png(ids))

    def write(self, name, data):
        (self.raw / name).parent.mkdir(parents=True, exist_ok=True)
        (self.raw / name).write_bytes(data)

    def colour(self, kind="P"):
        """Write the colour maps, as the toolkit (P) or the first release (RGBA) does."""
        palette = np.zeros((256, 3), np.uint8)
        for colour, mask_id in COLOURS:
            palette[mask_id] = list(colour.to_bytes(3, "big")) if mask_id != 255 else 0
        for (split, stem), ids in self.ids.items():
            image = Image.fromarray(ids)
            image.putpalette(palette.reshape(-1).tolist())
            path = self.raw / f"{self.COLOURS}/{split}/{stem}{self.COLOUR_TAIL}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            image.convert(kind).save(path)


class FirstScenes(Scenes):
    """The same in the folders of the first release."""

    IMAGES, MASKS, COLOURS = "bdd100k/seg/images", "bdd100k/seg/labels", "bdd100k/seg/color_labels"
    TAIL, COLOUR_TAIL = "_train_id", "_train_color"
