"""MATLAB 5 files, as far as annotations need them: structures, cells, numbers and lines of text.

Source: MathWorks, "MAT-File Format", the level 5 format. `scipy.io.loadmat` reads more kinds of things, but follows
cells within cells down the machine's stack: a file of a megabyte ends the process.
"""

from __future__ import annotations

import math
import struct
import zlib
from collections.abc import Collection
from pathlib import Path
from typing import Any

import numpy as np

from ufo_ds.errors import UserError, reason_of
from ufo_ds.files import read_bytes

MAX_BYTES = 64 * 2**20
"""Of a file, and of all that its compressed parts unfold to. Annotations of 16,000 images take about 10 MB."""
_DEEPEST = 8
_HEADER = 128
_MATRIX, _COMPRESSED = 14, 15
_CELL, _STRUCT, _CHAR = 1, 2, 4
_NUMBERS = {1: "i1", 2: "u1", 3: "i2", 4: "u2", 5: "i4", 6: "u4", 7: "f4", 9: "f8", 12: "i8", 13: "u8"}
"""Type of an element -> of its numbers."""
_TEXTS = {1: "latin-1", 2: "latin-1", 4: "utf-16", 16: "utf-8", 17: "utf-16", 18: "utf-32"}
"""Type of an element -> how its text is encoded."""


def read_mat(path: Path, names: Collection[str]) -> dict[str, Any]:
    """Read variables of a MATLAB 5 file.

    Args:
        path: of the file.
        names: of the variables; others are passed over.

    Returns:
        by name, as far as they are there: a string; a list, of a cell array in MATLAB's order; a dict of such lists by
        field, of a structure array; a flat numpy array of numbers; None, of an empty array.

    Raises:
        UserError: the file cannot be read, is no such file, or holds other kinds of values in these variables.
    """
    try:
        data = read_bytes(path, MAX_BYTES)
        return _read_variables(data, names)
    except (OSError, ValueError, struct.error, zlib.error) as error:
        raise UserError(
            f"{path}: cannot be read as a MATLAB 5 file ({reason_of(error)}); get it again from the download"
        ) from None


def _read_variables(data: bytes, names: Collection[str]) -> dict[str, Any]:
    marks = {b"IM": "<", b"MI": ">"}
    if data.startswith((b"\x89HDF", b"MATLAB 7.3")):
        raise ValueError("it is of version 7.3; save it with -v7")
    if len(data) < _HEADER or data[126:128] not in marks:
        raise ValueError("no such header")
    order = marks[data[126:128]]
    values: dict[str, Any] = {}
    budget = MAX_BYTES
    file = _Elements(memoryview(data)[_HEADER:], order)
    while file.left:
        kind, content = file.take(padded=False)
        if kind == _COMPRESSED:
            unfolded = _unfold(content, budget)
            budget -= len(unfolded)
            kind, content = _Elements(memoryview(unfolded), order).take()
        if kind == _MATRIX:
            _enter_variable(values, _Elements(content, order), names)
    return values


def _unfold(content: memoryview, budget: int) -> bytes:
    engine = zlib.decompressobj()
    data = engine.decompress(content, budget + 1)
    if len(data) > budget:
        raise ValueError(f"it unfolds to more than {MAX_BYTES >> 20} MiB")
    if not engine.eof:
        raise ValueError("a compressed part breaks off")
    return data


class _Elements:
    """A run of elements, each a tag of 8 bytes with type and size, and its bytes, padded to 8."""

    def __init__(self, view: memoryview, order: str) -> None:
        self._view = view
        self.order = order

    @property
    def left(self) -> int:
        """Bytes not yet taken."""
        return len(self._view)

    def take(self, padded: bool = True) -> tuple[int, memoryview]:
        """Type and bytes of the next element; `struct.error` or `ValueError` where there is none whole.

        Args:
            padded: False in the file itself, where compressed elements follow one another without a gap.
        """
        kind, size = struct.unpack_from(f"{self.order}II", self._view)
        start = 8
        if kind >> 16:  # a small element: size and type share the first word, and four bytes are in the tag
            kind, size, start = kind & 0xFFFF, kind >> 16, 4
        if start + size > len(self._view) or (start == 4 and size > 4):
            raise ValueError("an element goes beyond the end")
        content = self._view[start : start + size]
        end = start + size
        if padded or kind != _COMPRESSED:
            end += -end % 8
        self._view = self._view[end:]
        return kind, content

    def numbers(self) -> np.ndarray:
        """The next element as numbers."""
        kind, content = self.take()
        if kind not in _NUMBERS:
            raise ValueError(f"an element of type {kind} where numbers should be")
        return np.frombuffer(content, np.dtype(_NUMBERS[kind]).newbyteorder(self.order))

    def text(self) -> str:
        """The next element as text."""
        kind, content = self.take()
        if kind not in _TEXTS:
            raise ValueError(f"an element of type {kind} where text should be")
        byte_order = {"<": "-le", ">": "-be"}[self.order] if kind in (4, 17, 18) else ""
        return str(content, _TEXTS[kind] + byte_order)


def _enter_variable(values: dict[str, Any], elements: _Elements, names: Collection[str]) -> None:
    kind, shape, name = _matrix_head(elements)
    if name in names:
        values[name] = _body(elements, kind, shape, 0)


def _matrix_head(elements: _Elements) -> tuple[int, tuple[int, ...], str]:
    """Class, dimensions and name of a matrix."""
    flags, shape = elements.numbers(), elements.numbers()
    _, name = elements.take()
    if not len(flags) or not len(shape) or min(shape) < 0:
        raise ValueError("a matrix without its dimensions")
    return int(flags[0]) & 0xFF, tuple(shape.tolist()), str(name, "latin-1")


def _value(elements: _Elements, depth: int) -> Any:
    """The next element, which is a matrix."""
    kind, content = elements.take()
    if kind != _MATRIX or depth > _DEEPEST:
        raise ValueError("cells within cells" if depth > _DEEPEST else f"an element of type {kind} in a cell")
    if not content:
        return None
    inner = _Elements(content, elements.order)
    kind, shape, _ = _matrix_head(inner)
    return _body(inner, kind, shape, depth)


def _body(elements: _Elements, kind: int, shape: tuple[int, ...], depth: int) -> Any:
    count = math.prod(shape)  # may be any number: each value takes at least the 8 bytes of its tag, or there is no more
    if kind == _STRUCT:
        return _structure(elements, count, depth)
    if kind == _CELL:
        return [_value(elements, depth + 1) for _ in range(count)]
    if kind == _CHAR:
        if count and count != shape[-1]:
            raise ValueError(f"text of {shape} characters, not a line")
        return elements.text() if count else ""
    if 6 <= kind <= 15:
        return elements.numbers() if count else None
    raise ValueError(f"a matrix of class {kind}")


def _structure(elements: _Elements, count: int, depth: int) -> dict[str, list]:
    width = elements.numbers()
    _, names = elements.take()
    if len(width) != 1 or not 0 < width[0] <= len(names) or len(names) % width[0]:
        raise ValueError("a structure without its fields")
    cuts = range(0, len(names), int(width[0]))
    columns: dict[str, list] = {str(names[cut : cut + width[0]], "latin-1").partition("\0")[0]: [] for cut in cuts}
    if len(columns) != len(cuts):
        raise ValueError("a structure with a field twice")
    for _ in range(count):
        for column in columns.values():
            column.append(_value(elements, depth + 1))
    return columns
