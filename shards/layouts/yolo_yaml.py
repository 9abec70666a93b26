"""YOLO's data.yaml: names of the classes, and where the images of each split lie."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from ufo_ds.data.schema import SPLITS, ClassInfo
from ufo_ds.errors import UserError, shown
from ufo_ds.yaml_file import read_mapping

NAMES = ("data.yaml", "data.yml", "dataset.yaml")


@dataclass
class DataYaml:
    """`classes`, ascending by id, and the folders of images that are there, by split."""

    classes: list[ClassInfo]
    folders: dict[str, Path]


def find_yaml(raw: Path) -> Path | None:
    """The file itself, or the only YAML file that there is."""
    named = [raw / name for name in NAMES if (raw / name).exists()]
    others = sorted(path for path in raw.glob("*.y*ml") if path.is_file())
    return named[0] if named else others[0] if len(others) == 1 else None


def read_yaml(path: Path, raw: Path) -> DataYaml:
    """Read it; folders are looked for in `raw` alone, as `path` speaks of another machine as a rule.

    Raises:
        UserError: it is no safe YAML, `names` are none, a split's value is no folder.
    """
    values = read_mapping(str(path), "data.yaml")
    classes = _classes(values.get("names"), values.get("nc"), path)
    folders = {}
    for split in SPLITS:
        if values.get(split) is not None:
            folder = _folder(values[split], values.get("path"), raw, f"{path}: key '{split}'")
            if folder:
                folders[split] = folder
    return DataYaml(classes, folders)


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


def _folder(value: Any, base: Any, raw: Path, where: str) -> Path | None:
    """The folder of a split in `raw`; None where the file speaks of one that is not there."""
    values = value if isinstance(value, list) else [value]
    if not values or not all(isinstance(item, str) and item.strip() and "\0" not in item for item in values):
        raise UserError(f"{where} is {shown(value, 60)}, not a folder of images")
    if len(values) > 1:
        raise UserError(f"{where} lists {len(values)} folders; put the images of a split into one")
    if values[0].endswith(".txt"):
        raise UserError(f"{where} is a list of files ({shown(values[0])}); put the images of a split into a folder")
    inner = _inside(values[0])
    below = _inside(base) if isinstance(base, str) else PurePosixPath()
    # What exists here of a path of another machine is its end.
    ends = [PurePosixPath(*inner.parts[skip:]) for skip in range(len(inner.parts))]
    found = next((path for path in (raw / below / inner, *(raw / end for end in ends)) if path.is_dir()), None)
    inside = found / "images" if found else raw
    return inside if found and inside.is_dir() else found


def _inside(text: str) -> PurePosixPath:
    """A path without what leads out of its folder."""
    parts = PurePosixPath(text.strip().replace("\\", "/")).parts
    return PurePosixPath(*[part for part in parts if part not in ("..", ".", "/") and ":" not in part])
