"""Whether a sample that stands in a tar is one that training can use; what is not raises `UnfitError`."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, BinaryIO

import numpy as np

from shards.image_check import UnfitError, check_boxes, check_image, check_mask
from shards.layouts import Boxes
from shards.layouts.coco import is_count, is_finite
from shards.layouts.files import MAX_FILE_BYTES
from ufo_ds.data.decode import DecodeError, decode_label, decode_mask
from ufo_ds.data.schema import IGNORE_ID, IMAGE_EXTENSIONS, Member, label_extension
from ufo_ds.errors import shown

_MASK_IDS = 256


@dataclass(frozen=True)
class Facts:
    """What a sound sample says of itself.

    Attributes:
        labelled: whether it has a label.
        class_ids: that its label uses, ascending.
        image_id: of a detection image.
    """

    labelled: bool
    class_ids: tuple[int, ...] = ()
    image_id: int | None = None


def arrange(task: str, members: Sequence[Member]) -> list[Member]:
    """The image first, the label second, as the reader wants them, then what else there is.

    Raises:
        UnfitError: no image among them.
    """
    by_extension = {member.ext.lower(): member for member in members}
    label = by_extension.get(label_extension(task, by_extension))
    wanted = [ext for ext in IMAGE_EXTENSIONS if ext in by_extension and by_extension[ext] != label]
    if not wanted:
        there = ", ".join(member.ext for member in members)
        raise UnfitError(f"has no image ({', '.join(IMAGE_EXTENSIONS)}), only {there}")
    first = [by_extension[wanted[0]], *([label] if label else [])]
    return first + [member for member in members if member not in first]


def examine_members(task: str, file: BinaryIO, members: Sequence[Member]) -> Facts:
    """Read and examine a sample of an open tar. `UnfitError` where it is not sound; `OSError`."""
    ordered = arrange(task, members)
    extensions = [member.ext.lower() for member in ordered]
    has_label = label_extension(task, extensions) in extensions[1:2]
    return examine(task, _read(file, ordered[0]), _read(file, ordered[1]) if has_label else None)


def _read(file: BinaryIO, member: Member) -> bytes:
    if member.size > MAX_FILE_BYTES:
        raise UnfitError(f"{member.name} is larger than {MAX_FILE_BYTES >> 20} MiB")
    file.seek(member.offset)
    data = file.read(member.size)
    if len(data) != member.size:
        raise UnfitError(f"{member.name} lies beyond the end of the tar")
    return data


def examine(task: str, image: bytes, label: bytes | None) -> Facts:
    """Decode an image to its last byte, and its label.

    Args:
        task: `cls`, `det` or `seg`.
        image: the image file's bytes.
        label: the label member's bytes; None where there is none.

    Raises:
        UnfitError: one of them is broken, or they do not fit together.
    """
    try:
        size = check_image(image)
    except UnfitError as fault:
        raise UnfitError(f"the image: {fault}") from None
    if label is None:
        if task == "det":
            raise UnfitError("has no .json member with its image_id")
        return Facts(labelled=False)
    if task == "cls":
        return Facts(labelled=True, class_ids=(read_class(label),))
    if task == "det":
        boxes = read_boxes(label)
        check_boxes(boxes, *size)
        ids = sorted({item["category_id"] for item in boxes.annotations or ()})
        return Facts(boxes.annotations is not None, tuple(ids), boxes.image_id)
    check_mask(label, ".png", size, _MASK_IDS)
    present = np.bincount(decode_mask(label).reshape(-1), minlength=_MASK_IDS).nonzero()[0].tolist()
    return Facts(labelled=True, class_ids=tuple(i for i in present if i != IGNORE_ID))


def read_class(data: bytes) -> int:
    """A `.cls` member -> the class id. `UnfitError` where it is something else."""
    try:
        return decode_label(data)
    except DecodeError as fault:
        raise UnfitError(f"the .cls member: {fault}") from None


def read_boxes(data: bytes) -> Boxes:
    """A `.json` member, its boxes [x, y, w, h] in pixels. `UnfitError` where it is something else."""
    try:
        value = json.loads(data)
    except (ValueError, RecursionError):
        value = None
    if not isinstance(value, dict):
        raise UnfitError("the .json member is not a JSON object")
    if not is_count(value.get("image_id")):
        raise UnfitError(f"image_id is {shown(value.get('image_id'))}, not a whole number from 0 up")
    sides = [value.get(key) for key in ("width", "height")]
    if not all(side is None or is_count(side) for side in sides):
        raise UnfitError(f"width and height are {shown(sides)}, not pixels")
    items = value.get("annotations")
    if items is not None and not isinstance(items, list):
        raise UnfitError(f"annotations is {shown(items)}, not a list")
    names = [f"annotations[{number}]" for number in range(len(items or ()))]
    for name, item in zip(names, items or (), strict=True):
        _check_annotation(name, item)
    return Boxes(value["image_id"], *sides, annotations=items, annotation_names=names)


def _check_annotation(name: str, item: Any) -> None:
    bbox = item.get("bbox") if isinstance(item, dict) else None
    if not isinstance(bbox, list) or len(bbox) != 4 or not all(map(is_finite, bbox)) or min(bbox[2:]) <= 0:
        raise UnfitError(f"{name}.bbox is {shown(bbox, 60)}, not [x, y, w, h] in pixels")
    if not is_count(item.get("category_id")):
        raise UnfitError(f"{name}.category_id is {shown(item.get('category_id'))}, not a whole number from 0 up")
    if item.get("iscrowd", 0) not in (0, 1):
        raise UnfitError(f"{name}.iscrowd is {shown(item['iscrowd'])}, neither 0 nor 1")
    if not is_finite(item.get("area", 0)) or item.get("area", 0) < 0:
        raise UnfitError(f"{name}.area is {shown(item['area'])}, not a number of at least 0")

