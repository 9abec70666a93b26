"""A label file of YOLO: a line an object, `class cx cy w h` or `class x1 y1 x2 y2 x3 y3 ...`, shares of the image."""

from __future__ import annotations

import math
from pathlib import Path

from shards.layouts import RelativeBoxes
from ufo_ds.errors import reason_of, shown
from ufo_ds.files import read_text

MAX_BYTES = 16 * 2**20
TOLERANCE = 0.01
"""By how much of the image a coordinate may lie outside; packing then looks at pixels."""


def read_labels(path: Path, image_id: int, known: set[int], keypoints: int = 0) -> RelativeBoxes:
    """The boxes of an image.

    Args:
        path: of the text file.
        image_id: of the image.
        known: class ids.
        keypoints: numbers that a pose label has behind the box; they are dropped.

    Raises:
        ValueError: the file cannot be read, or a line is no object; it names file and line.
    """
    try:
        text = read_text(path, "utf-8-sig", MAX_BYTES)
    except (OSError, ValueError) as error:
        raise ValueError(f"{path.name} cannot be read: {reason_of(error)}") from None
    annotations, names = [], []
    for number, line in enumerate(text.splitlines(), start=1):
        if not (words := line.split()):
            continue
        name = f"{path.name}:{number}"
        annotations.append(_read_line(words, name, known, keypoints))
        names.append(name)
    return RelativeBoxes(image_id, annotations=annotations, annotation_names=names)


def _read_line(words: list[str], where: str, known: set[int], keypoints: int) -> dict:
    digits = words[0].removesuffix(".0")  # some tools write all numbers alike
    class_id = int(digits) if digits.isascii() and digits.isdigit() and len(digits) < 10 else -1
    if class_id not in known:
        raise ValueError(f"{where}: class {shown(words[0])} is none of the classes")
    try:
        numbers = [float(word) for word in words[1:]]
    except ValueError:
        raise ValueError(f"{where}: {shown(' '.join(words), 60)} is not a class and numbers") from None
    if not all(map(math.isfinite, numbers)):
        raise ValueError(f"{where}: {shown(' '.join(words), 60)} has a number that is not finite")
    if keypoints and len(numbers) == 4 + keypoints:
        numbers = numbers[:4]
    if len(numbers) == 4:
        cx, cy, w, h = numbers
        corners = cx - w / 2, cy - h / 2, cx + w / 2, cy + h / 2
    elif len(numbers) >= 6 and not keypoints and len(numbers) % 2 == 0:  # the outline of a segmentation label: its box
        xs, ys = numbers[::2], numbers[1::2]
        corners = min(xs), min(ys), max(xs), max(ys)
    else:
        raise ValueError(f"{where}: {len(words)} numbers; an object has 5, or a class and the points of an outline")
    left, top, right, bottom = corners
    if min(corners) < -TOLERANCE or max(corners) > 1 + TOLERANCE:
        raise ValueError(f"{where}: box {shown(numbers, 60)} lies outside 0..1; coordinates are shares of the image")
    if right <= left or bottom <= top:
        raise ValueError(f"{where}: box {shown(numbers, 60)} has no area")
    bbox = [left, top, right - left, bottom - top]
    return {"bbox": bbox, "category_id": class_id, "iscrowd": 0, "area": 0.0}
