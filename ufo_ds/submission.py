"""The challenge's submission file as a whole: reading both forms, checking, writing.

A submission is one JSON object with the sections `cls` (image -> class id), `dec` (a list of boxes) and `seg`
(image -> polygons by class id). `cls` and `seg` come in two forms, a list of single-key objects (what the
official code writes and reads) or one object (what the challenge's page shows); both are read, either is
written.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, NoReturn

import msgspec

from ufo_ds.errors import UserError, shown
from ufo_ds.files import replace_file
from ufo_ds.polygons import Polygons, mask_to_polygons, parse_class_id, parse_contour, polygons_to_mask
from ufo_ds.strict_json import read_json

__all__ = ["mask_to_polygons", "polygons_to_mask", "read_submission", "write_submission"]


MAX_PIXEL = 1e9
"""Largest number in a box: areas of more would overflow."""

_BOXES_A_PIECE = 4096

# ---- sections: checked, and by image ----


def read_labels(value: Any, path: Path) -> dict[str, int]:
    """The `cls` section, either form -> class id by image name. `UserError` names file and entry."""
    labels = _by_image(value, path, "cls")
    for name, label in labels.items():
        if not is_integer(label):
            _reject(path, "cls", shown(name, 80), f"{shown(label)} is no class id", "write an integer")
    return labels


def read_boxes(value: Any, path: Path) -> list[dict[str, Any]]:
    """The `dec` section, checked: entries with `image_id`, `category_id`, `bbox` (xywh, pixels) and `score`.

    Raises:
        UserError: names file and entry.
    """
    if not isinstance(value, list):
        _reject(path, "dec", None, f"is {_kind(value)}", "write a list of boxes")
    for number, entry in enumerate(value):
        if problem := _box_problem(entry):
            _reject(path, "dec", str(number), problem,
                    "write {image_id, category_id, bbox: [x, y, w, h], score}")
    return value


def read_polygons(value: Any, path: Path) -> dict[str, Polygons]:
    """The `seg` section, either form -> polygons by image name. `UserError` names file and entry.

    The polygons of an image may be text, a `msgspec.Raw`, which is left as it is.
    """
    images = _by_image(value, path, "seg")
    for name, polygons in images.items():
        if isinstance(polygons, msgspec.Raw):
            continue  # text that `encode_mask` has written
        if not isinstance(polygons, dict):
            _reject(path, "seg", shown(name, 80), f"is {_kind(polygons)}", 'write {"<class id>": [contour, ...]}')
        for class_id, contours in polygons.items():
            where = f"{path}: section 'seg', entry {shown(name, 80)}, class {shown(class_id)}"
            parse_class_id(class_id, where)
            if not isinstance(contours, list):
                raise UserError(f"{where} is {_kind(contours)}; write a list of contours")
            for contour in contours:
                parse_contour(contour, where)
    return images


READERS: dict[str, Callable[[Any, Path], Any]] = {"cls": read_labels, "dec": read_boxes, "seg": read_polygons}
"""By section: JSON value in either form, path (for messages) -> checked section."""


def _by_image(value: Any, path: Path, section: str) -> dict[str, Any]:
    images: dict[str, Any] = {}
    for place, name, item in _named(value, path, section):
        if not name:
            _reject(path, section, place, "the image has an empty name", "write its file name")
        if name in images and _differ(images[name], item):
            _reject(path, section, place, f"{shown(name, 80)} has stood before with another value", "keep one of them")
        images[name] = item
    return images


def _differ(first: Any, second: Any) -> bool:
    try:
        return bool(first != second)
    except RecursionError:
        return True


def _named(value: Any, path: Path, section: str) -> Iterator[tuple[str, str, Any]]:
    """(place for messages, image name, value) of either form."""
    if isinstance(value, dict):
        yield from ((shown(name, 80), name, item) for name, item in value.items())
        return
    if not isinstance(value, list):
        _reject(path, section, None, f"is {_kind(value)}", "write a list of single-key objects")
    for number, entry in enumerate(value):
        if not isinstance(entry, dict) or len(entry) != 1:
            what = f"is an object of {len(entry)} keys" if isinstance(entry, dict) else f"is {_kind(entry)}"
            _reject(path, section, str(number), what, 'write one image an entry, {"<file name>": ...}')
        yield str(number), *next(iter(entry.items()))


def _box_problem(entry: Any) -> str:
    """What is wrong with an entry of `dec`; empty when nothing is."""
    if not isinstance(entry, dict):
        return f"is {_kind(entry)}"
    for key in ("image_id", "category_id", "bbox", "score"):
        if key not in entry:
            return f"has no {key}"
    for key in ("image_id", "category_id"):
        if not is_integer(entry[key]):
            return f"{key} is {shown(entry[key])}, no integer"
    box = entry["bbox"]
    if not is_box(box):
        return f"bbox {shown(box, 80)} is not four finite numbers (pixels) with width and height of at least 0"
    return "" if is_finite(entry["score"]) else f"score {shown(entry['score'])} is no finite number"


def is_box(value: Any) -> bool:
    """Whether a JSON value is a box: [x, y, w, h], finite and no absurd pixels, w and h of at least 0."""
    if not isinstance(value, list) or len(value) != 4 or not all(map(is_finite, value)):
        return False
    return min(value[2:]) >= 0 and max(map(abs, value)) <= MAX_PIXEL


def is_integer(value: Any) -> bool:
    """Whether a JSON value is an integer that fits 64 bits."""
    return isinstance(value, int) and not isinstance(value, bool) and abs(value) < 2**63


def is_finite(value: Any) -> bool:
    """Whether a JSON value is a number that fits a float."""
    # Integers beyond float's range would raise in isfinite.
    return is_integer(value) or (isinstance(value, float) and math.isfinite(value))


def _kind(value: Any) -> str:
    names = {dict: "an object", list: "a list", str: "a string", bool: "true or false", type(None): "null"}
    return names.get(type(value), "a number")


def _reject(path: Path, section: str, entry: str | None, problem: str, remedy: str) -> NoReturn:
    place = f"section {section!r}" + (f", entry {entry}:" if entry is not None else "")
    raise UserError(f"{path}: {place} {problem}; {remedy}")


# ---- the file ----


def checked_sections(value: Any, path: Path) -> dict[str, Any]:
    """The JSON value of a submission, if it is an object with some of the three sections. Raises `UserError`."""
    if not isinstance(value, dict):
        raise UserError(f"{path}: is {_kind(value)}; a submission is an object of cls, dec and seg")
    _check_names(value, path)
    return value


def read_submission(path: str | Path) -> dict[str, Any]:
    """Read and check a submission whole.

    Returns:
        The sections that are there, whichever form the file has: `cls` class id by image name, `dec` the list
        of boxes (`bbox` xywh in pixels), `seg` polygons by image name.

    Raises:
        UserError: names file, section, entry and remedy.
    """
    path = Path(path)
    return {name: READERS[name](value, path) for name, value in checked_sections(read_json(path), path).items()}


def write_submission(path: str | Path, sections: Mapping[str, Any], as_objects: bool = False) -> None:
    """Write a submission, whole or not at all; equal sections give equal bytes.

    Args:
        path: the JSON file; missing folders are made.
        sections: `cls`, `dec`, `seg`, or some of them, each in either form; see `read_polygons` on text.
        as_objects: `cls` and `seg` as one object each instead of lists of single-key objects.

    Raises:
        UserError: a section that could not be read back, or a file that cannot be written.
    """
    path = Path(path)
    _check_names(sections, path)
    checked = {name: READERS[name](sections[name], path) for name in READERS if name in sections}
    replace_file(path, _text_of(checked, as_objects))


def _text_of(sections: Mapping[str, Any], as_objects: bool) -> Iterator[bytes]:
    """The file in pieces, none larger than an image's polygons or some thousand boxes."""
    yield b"{"
    for number, (section, value) in enumerate(sections.items()):
        yield f'{"," if number else ""}"{section}":'.encode()
        if isinstance(value, list):
            parts = (_encode(value[first : first + _BOXES_A_PIECE])[1:-1]
                     for first in range(0, len(value), _BOXES_A_PIECE))
            yield from _joined(parts, b"[", b"]")
        else:
            # In ASCII, whatever the name holds.
            parts = (json.dumps(name).encode() + b":" + _encode(item) for name, item in value.items())
            yield from _joined(parts, *((b"{", b"}") if as_objects else (b"[{", b"}]")), b"," if as_objects else b"},{")
    yield b"}"


def _joined(parts: Iterable[bytes], before: bytes, after: bytes, between: bytes = b",") -> Iterator[bytes]:
    number = -1
    for number, part in enumerate(parts):
        yield (between if number else before) + part
    yield after if number >= 0 else before[:1] + after[-1:]


def _encode(value: Any) -> bytes:
    try:
        return msgspec.json.encode(value)
    except (TypeError, ValueError):  # numbers of NumPy, half a surrogate pair
        return json.dumps(value, separators=(",", ":"), allow_nan=False).encode()


def _check_names(sections: Mapping[str, Any], path: Path) -> None:
    unknown = [name for name in sections if name not in READERS]
    if not sections or unknown:
        problem = f"unknown section {shown(unknown[0])}" if unknown else "no section at all"
        hint = " (detection is called dec there)" if "det" in unknown else ""
        raise UserError(f"{path}: {problem}; a submission has cls, dec and seg{hint}")
