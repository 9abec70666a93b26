"""YOLO's data.yaml: names of the classes, and where the images of each split lie."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from shards.layouts.yolo_images import Images, find_images
from ufo_ds.data.schema import SPLITS, ClassInfo
from ufo_ds.errors import UserError, shown
from ufo_ds.yaml_file import read_mapping

NAMES = ("data.yaml", "data.yml", "dataset.yaml")


@dataclass
class DataYaml:
    """What it says.

    Attributes:
        classes: ascending by id.
        images: that are there, by split.
        keypoints: numbers behind the box in pose labels.
    """

    classes: list[ClassInfo]
    images: dict[str, Images]
    keypoints: int = 0


def find_yaml(raw: Path) -> Path | None:
    """The file itself, or the only YAML file that there is."""
    named = [raw / name for name in NAMES if (raw / name).exists()]
    others = sorted(path for path in raw.glob("*.y*ml") if path.is_file())
    return named[0] if named else others[0] if len(others) == 1 else None


def read_yaml(path: Path, raw: Path) -> DataYaml:
    """Read it; images are looked for in `raw` alone, as `path` speaks of another machine as a rule.

    Raises:
        UserError: it is no safe YAML, `names` are none, or a split's value is of no use; see `find_images`.
    """
    values = read_mapping(str(path), "data.yaml")
    classes = _classes(values.get("names"), values.get("nc"), path)
    images = {}
    for split in SPLITS:
        if values.get(split) is not None:
            found = find_images(values[split], values.get("path"), raw, f"{path}: key '{split}'")
            if found:
                images[split] = found
    shape = values.get("kpt_shape") or [0, 0]
    if not isinstance(shape, list) or len(shape) != 2 or not all(type(one) is int and one >= 0 for one in shape):
        raise UserError(f"{path}: key 'kpt_shape' is {shown(shape, 60)}, not [points, numbers a point]")
    return DataYaml(classes, images, shape[0] * shape[1])


def _classes(names: Any, count: Any, path: Path) -> list[ClassInfo]:
    if isinstance(names, list) and names:
        if type(count) is int and len(names) != count:
            raise UserError(f"{path}: key 'nc' is {count}, but 'names' has {len(names)}; make them agree")
        names = dict(enumerate(names))
    if not isinstance(names, dict) or not names:
        raise UserError(f"{path}: key 'names' is {shown(names, 60)}, not the names of the classes; list them")
    classes = []
    for number, name in names.items():
        place = f"{path}: key 'names'"
        if type(number) is not int or not 0 <= number < 2**31:
            raise UserError(f"{place}: {shown(number)} is no class id; write whole numbers from 0 up")
        if isinstance(name, bool) or name is None:
            raise UserError(f"{place}: class {number} is {name} to YAML; write the name in quotes")
        if not isinstance(name, str | int | float) or not str(name).strip() or not str(name).isprintable():
            raise UserError(f"{place}: class {number} is {shown(name, 60)}, not a name in printable text")
        classes.append(ClassInfo(number, str(name)))
    return sorted(classes, key=lambda item: item.id)
