"""The annotations of TT100K as a file: signs with their boxes, by image."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from shards.layouts.coco import is_count, is_finite
from shards.layouts.files import plain_name, read_json
from ufo_ds.data.schema import Unmatched
from ufo_ds.errors import UserError, shown

FOLDERS = ("train", "test", "other")
_SIDES = ("xmin", "ymin", "xmax", "ymax")


@dataclass
class Sign:
    """An object of an image.

    Attributes:
        category: name of its class.
        bbox: [x, y, w, h] in pixels, or what stands there instead.
    """

    category: str
    bbox: Any


@dataclass
class Picture:
    """An image of the file.

    Attributes:
        image_id: its key.
        folder: `train`, `test` or `other`.
        name: of the image file.
        signs: its objects.
        fault: why it cannot be used; "" where it can.
    """

    image_id: int
    folder: str
    name: str
    signs: list[Sign] = field(default_factory=list)
    fault: str = ""


@dataclass
class SignFile:
    """The file.

    Attributes:
        path: of the file.
        types: names of all classes.
        pictures: in the file's order.
        unmatched: images that are in none of the three folders.
    """

    path: Path
    types: list[str]
    pictures: list[Picture] = field(default_factory=list)
    unmatched: list[Unmatched] = field(default_factory=list)


def read_signs(path: Path) -> SignFile:
    """Read `annotations.json` or `annotations_all.json`.

    Raises:
        UserError: it is malformed as a whole: no JSON, `types` or `imgs` missing or of a wrong type, a path that leads
            elsewhere.
    """
    value = read_json(path)
    if not isinstance(value, dict):
        raise UserError(f"{path}: not a JSON object with imgs and types")
    images = value.get("imgs")
    if not isinstance(images, dict):
        raise UserError(f"{path}: imgs is {'missing' if images is None else 'not an object'}; it must hold the images")
    signs = SignFile(path, _read_types(value.get("types"), path))
    for key, item in images.items():
        _add_picture(signs, key, item)
    return signs


def _read_types(types: Any, path: Path) -> list[str]:
    if not isinstance(types, list) or not types:
        raise UserError(f"{path}: types is {shown(types)}, not a list of class names")
    for number, name in enumerate(types):
        if not isinstance(name, str) or not name or not name.isprintable():
            raise UserError(f"{path}: types[{number}] is {shown(name)}, not a name in printable text")
    if len(set(types)) < len(types):
        raise UserError(f"{path}: types has {next(name for name in types if types.count(name) > 1)!r} twice")
    return types


def _add_picture(signs: SignFile, key: str, item: Any) -> None:
    where = f"{signs.path}: imgs[{shown(key)}]"
    if not isinstance(item, dict):
        raise UserError(f"{where} is not an object")
    path = item.get("path")
    if not isinstance(path, str):
        raise UserError(f"{where}.path is {shown(path)}, not such a path as train/123.jpg")
    folder, _, name = path.removeprefix("./").rpartition("/")
    plain_name(name, f"{where}.path")
    if folder not in FOLDERS:
        signs.unmatched.append(Unmatched(f"{signs.path.name}: {shown(path, 100)}", f"in none of {', '.join(FOLDERS)}"))
        return
    image_id = item.get("id", int(key) if key.isascii() and key.isdecimal() and len(key) < 19 else None)
    if not is_count(image_id) or str(image_id) != key:
        signs.pictures.append(Picture(0, folder, name, [], f"its id is {shown(image_id)}, its key {shown(key)}"))
        return
    try:
        signs.pictures.append(Picture(image_id, folder, name, _read_objects(item.get("objects"))))
    except ValueError as fault:
        signs.pictures.append(Picture(image_id, folder, name, [], str(fault)))


def _read_objects(objects: Any) -> list[Sign]:
    """The signs of an image. `ValueError` says what is wrong."""
    if not isinstance(objects, list):
        raise ValueError(f"objects is {shown(objects)}, not a list")
    signs = []
    for number, item in enumerate(objects):
        category = item.get("category") if isinstance(item, dict) else None
        if not isinstance(category, str):
            raise ValueError(f"objects[{number}].category is {shown(category)}, not a name")
        signs.append(Sign(category, _xywh(item.get("bbox"))))
    return signs


def _xywh(bbox: Any) -> Any:
    """Corners as [x, y, w, h]; what is nothing of the kind as it is, for the message."""
    corners = [bbox.get(side) for side in _SIDES] if isinstance(bbox, dict) else []
    if len(corners) != 4 or not all(map(is_finite, corners)):
        return bbox
    xmin, ymin, xmax, ymax = corners
    return [xmin, ymin, xmax - xmin, ymax - ymin]
