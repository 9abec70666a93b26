"""The classes of masks: a file that names them, with their colours or values if need be, or the ids that occur."""

from __future__ import annotations

import csv
import os
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import NoReturn

import numpy as np

from shards.image_check import UnfitError, read_source
from shards.layouts import CodedMask, Source
from shards.layouts.files import Folder, read_class_names, read_lines
from shards.mask_codes import values_of
from ufo_ds.data.schema import IGNORE_ID, ClassInfo
from ufo_ds.errors import UserError, listed, shown

_CVAT = "labelmap.txt"
CLASS_FILES = ("classes.csv", "class_dict.csv", "classes.txt", _CVAT)
IGNORED = ("ignore", "void")
"""Names of what is no class: its pixels become 255."""
_LISTED = 12
_LOOKED_AT = 64
_MOST_CODED = 254
"""Of the ids of a coded mask, 255 means ignore and 254 nothing."""


@dataclass
class MaskClasses:
    """Classes, ids from 0 without holes, and how the pixels of a mask say them; `codes` as in `CodedMask`."""

    classes: list[ClassInfo]
    codes: tuple[tuple[int, int], ...] | None = None
    coloured: bool = False
    notes: list[str] = field(default_factory=list)

    def coded(self, source: Source) -> CodedMask:
        """A mask file as the label of a sample."""
        return CodedMask(source, self.codes, self.coloured)


def read_mask_classes(raw: Path, masks: Mapping[str, Folder]) -> MaskClasses:
    """The classes of the file that stands in `raw`; without one, those whose ids occur in `masks`.

    Raises:
        UserError: a line that is none, a colour or value twice, more than 255 classes, masks of 0 and 255 alone.
    """
    path = next((raw / name for name in CLASS_FILES if (raw / name).exists()), None)
    found = _of_file(path) if path else _of_ids(masks)
    if path and found.codes is None and len(found.classes) > 1:
        sources = _sources(masks)
        if _are_binary(sources[:_LOOKED_AT]) and _are_binary(sources[_LOOKED_AT:]):
            _refuse_binary(masks)
    if len(found.classes) > IGNORE_ID:
        raise UserError(f"{path}: {len(found.classes)} classes, but 8-bit masks have room for {IGNORE_ID}")
    return found


# ---- a file ----


def _of_file(path: Path) -> MaskClasses:
    rows = [(number, _fields(path, line)) for number, line in read_lines(path)]
    if len(rows) > 1 and _numbers(rows[1][1]) and not _numbers(rows[0][1]):
        rows = rows[1:]  # a heading
    if not any(_numbers(fields) for _, fields in rows):
        if path.suffix == ".csv":
            raise UserError(f"{path}: no line of `name,value` or `name,red,green,blue`; write one a class")
        return MaskClasses(read_class_names(path) or [])
    return _with_codes(path, rows)


def _fields(path: Path, line: str) -> list[str]:
    """A line's name and numbers. In a list of names a number may be part of the name: there it takes three."""
    if path.name == _CVAT:  # label:color_rgb:parts:actions
        name, colour = (*line.split(":"), "")[:2]
        return [name, *(field.strip() for field in colour.split(","))]
    if path.suffix == ".csv" or "," in line:
        try:
            return [field.strip() for field in next(csv.reader([line]))]
        except csv.Error as error:
            raise UserError(f"{path}: {shown(line, 60)} is not a line of CSV ({error})") from None
    words = line.rsplit(None, 3)
    return words if len(words) == 4 and _numbers(words) else [line]


def _numbers(fields: list[str]) -> list[int]:
    """What follows the name, if that is one value or three of a colour."""
    good = len(fields) in (2, 4) and all(item.isascii() and item.isdigit() for item in fields[1:])
    return [int(item[:9]) for item in fields[1:]] if good else []


def _with_codes(path: Path, rows: list[tuple[int, list[str]]]) -> MaskClasses:
    width, codes, classes = len(rows[0][1]), {}, []
    for number, fields in rows:
        values, where = _numbers(fields), f"{path}:{number}"
        if len(fields) != width or not values or max(values) > 255 or not fields[0].isprintable() or not fields[0]:
            raise UserError(f"{where}: {','.join(fields)!r:.60} is not `name,value` or `name,red,green,blue` (0-255)")
        code = int.from_bytes(bytes(values), "big")
        if code in codes:
            raise UserError(f"{where}: {','.join(fields[1:])} has stood before; a colour or value means one class")
        is_class = fields[0].lower() not in IGNORED
        codes[code] = len(classes) if is_class else IGNORE_ID
        if is_class:
            classes.append(ClassInfo(len(classes), fields[0]))
    if not 0 < len(classes) <= _MOST_CODED:
        raise UserError(f"{path}: names {len(classes)} classes; write 1 to {_MOST_CODED}, one a line")
    if width == 2:
        codes.setdefault(IGNORE_ID, IGNORE_ID)
    return MaskClasses(classes, tuple(codes.items()), coloured=width == 4)


# ---- the ids that occur ----


def _of_ids(masks: Mapping[str, Folder]) -> MaskClasses:
    present = _values(_sources(masks))
    ids = [value for value in present if value != IGNORE_ID]
    if present == [0, IGNORE_ID]:
        _refuse_binary(masks)
    if not ids:  # every mask is broken or of colours: packing says which
        ids = [0]
    note = f"seg: no classes.txt: ids {listed(ids, _LISTED)} occur in the masks, so the classes are 0..{ids[-1]}"
    return MaskClasses([ClassInfo(number, f"class_{number}") for number in range(ids[-1] + 1)], notes=[note])


def _refuse_binary(masks: Mapping[str, Folder]) -> NoReturn:
    remedy = "if it is a class here, write classes.csv with lines `background,0` and `NAME,255`"
    place = next(iter(masks.values())).path
    raise UserError(f"{place}: the masks hold 0 and 255 alone, and 255 means ignore; {remedy}")


def _are_binary(sources: list[Source]) -> bool:
    return not sources or _values(sources) == [0, IGNORE_ID]


def _sources(masks: Mapping[str, Folder]) -> list[Source]:
    return [source for folder in masks.values() for source in folder.images.values()]


def _values(sources: list[Source]) -> list[int]:
    """All that occur in masks."""
    with ThreadPoolExecutor(len(os.sched_getaffinity(0))) as pool:
        return sorted({value for found in pool.map(_present, sources) for value in found})


def _present(source: Source) -> list[int]:
    try:
        values = values_of(read_source(source))
    except UnfitError:
        return []
    return np.bincount(values.reshape(-1), minlength=256).nonzero()[0].tolist()
