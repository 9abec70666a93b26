"""COCO detection files: categories, images with their ids, and annotations, checked."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from shards.layouts import Boxes
from shards.layouts.files import plain_name, read_json
from ufo_ds.data.schema import ClassInfo, Unmatched
from ufo_ds.errors import UserError, shown


@dataclass
class CocoFile:
    """A COCO file.

    Attributes:
        path: of the file.
        classes: ascending by id.
        boxes: label of each image by file name, in the file's order.
        faults: why an image cannot be used, by file name.
        unmatched: annotations of unknown images.
    """

    path: Path
    classes: list[ClassInfo]
    boxes: dict[str, Boxes] = field(default_factory=dict)
    faults: dict[str, str] = field(default_factory=dict)
    unmatched: list[Unmatched] = field(default_factory=list)


def read_coco(
    path: Path,
    default_classes: Callable[[list[dict]], list[ClassInfo]],
    checked_name: Callable[[Any, str], str] = plain_name,
    labelled: bool = True,
) -> CocoFile:
    """Read a COCO file.

    Args:
        path: of the file.
        default_classes: the annotations of a file without `categories` -> its classes.
        checked_name: (`file_name`, place for messages) -> the name; `UserError` where it is none.
        labelled: whether there have to be `annotations`.

    Raises:
        UserError: it is malformed as a whole: no JSON, a key missing or of a wrong type, an image id twice.
    """
    value = read_json(path)
    if not isinstance(value, dict):
        raise UserError(f"{path}: not a JSON object with images, annotations and categories")
    images = _objects(value, "images", path)
    annotations = _objects(value, "annotations", path) if labelled or "annotations" in value else []
    coco = CocoFile(path, _read_categories(value, path) or default_classes(annotations))
    names = _read_images(coco, images, checked_name)
    known = {item.id for item in coco.classes}
    for number, annotation in enumerate(annotations):
        _add_annotation(coco, names, known, number, annotation)
    return coco


def _objects(value: dict, key: str, path: Path) -> list[dict]:
    if key not in value:
        raise UserError(f"{path}: {key} is missing")
    items = value[key]
    if not isinstance(items, list):
        raise UserError(f"{path}: {key} is not a list")
    for number, item in enumerate(items):
        if not isinstance(item, dict):
            raise UserError(f"{path}: {key}[{number}] is not an object")
    return items


def is_count(value: Any) -> bool:
    """A whole number from 0 up that fits 64 bits."""
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 2**63


def _whole(value: Any) -> Any:
    """A float without a fraction, as tables of floats write ids and sizes, as the whole number it is; else `value`."""
    return int(value) if isinstance(value, float) and value.is_integer() and abs(value) < 2**53 else value


def _read_categories(value: dict, path: Path) -> list[ClassInfo] | None:
    if "categories" not in value:
        return None
    classes: dict[int, ClassInfo] = {}
    for number, item in enumerate(_objects(value, "categories", path)):
        where, class_id, name = f"{path}: categories[{number}]", _whole(item.get("id")), item.get("name")
        if not is_count(class_id):
            raise UserError(f"{where}.id is {shown(class_id)}, not a whole number from 0 up")
        if not isinstance(name, str) or not name or not name.isprintable():
            raise UserError(f"{where}.name is {shown(name)}, not a name in printable text")
        if class_id in classes:
            raise UserError(f"{where}.id {class_id} is given twice")
        classes[class_id] = ClassInfo(class_id, name)
    if not classes:
        raise UserError(f"{path}: categories is empty; list the classes")
    return [classes[class_id] for class_id in sorted(classes)]


def _read_images(coco: CocoFile, images: list[dict], checked_name: Callable[[Any, str], str]) -> dict[int, str]:
    """Enter the images into `coco.boxes`; returns file names by image id."""
    names: dict[int, str] = {}
    for number, item in enumerate(images):
        where = f"{coco.path}: images[{number}]"
        image_id, size = _whole(item.get("id")), (_whole(item.get("width")), _whole(item.get("height")))
        if not is_count(image_id):
            raise UserError(f"{where}.id is {shown(image_id)}, not a whole number from 0 up")
        if image_id in names:
            raise UserError(f"{where}.id {image_id} is given twice; image ids must be distinct")
        for key, pixels in zip(("width", "height"), size, strict=True):
            if pixels is not None and not (is_count(pixels) and pixels):
                raise UserError(f"{where}.{key} is {shown(pixels)}, not a number of pixels")
        name = names[image_id] = checked_name(item.get("file_name"), f"{where}.file_name")
        if name in coco.boxes:
            ids = f"{coco.boxes[name].image_id} and {image_id}"
            coco.faults[name] = f"{coco.path.name} lists it twice, with ids {ids}"
        coco.boxes[name] = Boxes(image_id, *size, annotations=[])
    return names


def _add_annotation(coco: CocoFile, names: dict[int, str], known: set[int], number: int, item: dict) -> None:
    """Enter an annotation under its image, or the image's fault."""
    label = f"annotation {shown(item['id'])}" if "id" in item else f"annotations[{number}]"
    image_id = _whole(item.get("image_id"))
    name = names.get(image_id) if is_count(image_id) else None
    if name is None:
        reason = f"image_id {shown(image_id)} is none of the images"
        coco.unmatched.append(Unmatched(f"{coco.path.name}: {label}", reason))
        return
    try:
        annotation = checked_annotation(item, known)
    except ValueError as fault:
        coco.faults.setdefault(name, f"{label}: {fault}")
        return
    boxes = coco.boxes[name]
    boxes.annotations.append(annotation)
    boxes.annotation_names.append(label)


def is_finite(value: Any) -> bool:
    """A number that a float can hold."""
    try:
        return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    except OverflowError:  # an integer beyond the range of floats
        return False


def checked_annotation(item: dict, known: set[int]) -> dict:
    """The keys that training knows, checked but for the image's borders. `ValueError` says what is wrong."""
    bbox, category_id, iscrowd = item.get("bbox"), _whole(item.get("category_id")), item.get("iscrowd")
    iscrowd = 0 if iscrowd is None else iscrowd
    if not isinstance(bbox, list) or len(bbox) != 4 or not all(is_finite(number) for number in bbox):
        raise ValueError(f"bbox {shown(bbox, 60)} is not four finite numbers")
    if bbox[2] <= 0 or bbox[3] <= 0:
        raise ValueError(f"bbox {shown(bbox, 60)} has no area")
    if not is_count(category_id) or category_id not in known:
        raise ValueError(f"category_id {shown(category_id)} is none of the categories")
    if iscrowd not in (0, 1):
        raise ValueError(f"iscrowd {shown(iscrowd)} is neither 0 nor 1")
    area = bbox[2] * bbox[3] if item.get("area") is None else item["area"]
    if not is_finite(area) or area < 0:
        raise ValueError(f"area {shown(area)} is not a finite number of at least 0")
    return {"bbox": bbox, "category_id": category_id, "iscrowd": int(iscrowd), "area": area}
