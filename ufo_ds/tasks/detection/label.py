"""The `.json` member of a detection sample, checked; needs no torch, for the scorer."""

from __future__ import annotations

import json
from typing import Any

from ufo_ds.errors import UserError, shown
from ufo_ds.submission import is_box, is_finite, is_integer

MAX_LABEL_BYTES = 2**24
"""A larger label is refused unparsed; a box takes less than a hundred bytes."""


def parse_label(data: bytes) -> dict[str, Any]:
    """`image_id`, and `annotations` where the sample is labelled: each with `bbox`, `category_id`, `iscrowd`, `area`.

    Raises:
        UserError: it is something else; who reads the sample adds its name.
    """
    try:
        label = json.loads(data) if len(data) <= MAX_LABEL_BYTES else None
    except (ValueError, RecursionError):
        label = None
    if not isinstance(label, dict) or not is_integer(label.get("image_id")):
        raise UserError("no image id (.json member); run shards/build.py again")
    annotations = label.get("annotations", [])
    if not isinstance(annotations, list):
        raise UserError(f"annotations are {shown(annotations)}, no list (.json member); run shards/build.py again")
    for number, item in enumerate(annotations):
        if problem := annotation_problem(item):
            raise UserError(f"annotations[{number}] {problem} (.json member); run shards/build.py again")
    return label


def annotation_problem(item: Any) -> str:
    """What is wrong with an annotation, whatever its image and category; empty when nothing is."""
    if not isinstance(item, dict):
        return "is no object"
    if not is_integer(item.get("category_id")):
        return f"has category_id {shown(item.get('category_id'))}, no integer"
    if not is_box(item.get("bbox")):
        return f"has the bbox {shown(item.get('bbox'), 80)}, not [x, y, w, h] with w and h of at least 0"
    area, crowd = item.get("area", 0), item.get("iscrowd", 0)
    if not is_finite(area) or area < 0:
        return f"has the area {shown(area)}, no number of at least 0"
    return "" if crowd in (0, 1) else f"has iscrowd {shown(crowd)}, neither 0 nor 1"
