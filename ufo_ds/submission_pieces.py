"""A submission taken apart image by image, none of it parsed before it is needed, for files with nothing odd in them.

What is accepted here, `ufo_ds.submission` accepts, too, and with the same values. Everything else raises `DoubtError`,
be it a mistake or merely unusual, and the caller reads the file the thorough way, which judges and has the words.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain
from typing import Any

import msgspec
import numpy as np

from ufo_ds.polygons import MAX_COORDINATE, Contours
from ufo_ds.strict_json import no_collection
from ufo_ds.submission import MAX_PIXEL

_MARK = b"\xef\xbb\xbf"
_CLASS_IDS = {str(class_id): class_id for class_id in range(256)}
_Raw = dict[str, msgspec.Raw]


class DoubtError(Exception):
    """Not certainly in order."""


class _Box(msgspec.Struct, gc=False):
    image_id: int
    category_id: int
    bbox: tuple[float, float, float, float]
    score: float


def split_sections(data: bytes) -> dict[str, bytes]:
    """The text of each section of a submission file."""
    return _pieces(data.removeprefix(_MARK), _decode(data.removeprefix(_MARK), _Raw))


def split_images(section: bytes) -> dict[str, bytes]:
    """The text of each image's value in `cls` or `seg`, in either form, by file name."""
    if section.lstrip()[:1] == b"{":
        return _pieces(section, _decode(section, _Raw))
    entries = _decode(section, list[_Raw])
    images = {name: item for entry in entries for name, item in entry.items()}
    if len(images) != len(entries) or "" in images:
        raise DoubtError
    return _pieces(section, images)


def parse_boxes(section: bytes) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """The section `dec`: image ids int64 [N], boxes float64 [N, 4] xywh, category ids int64 [N], scores float64 [N]."""
    with no_collection():
        boxes = _decode(section, list[_Box])
        _check_keys(section, 4 * len(boxes))
        image_ids = _integers([box.image_id for box in boxes])
        categories = _integers([box.category_id for box in boxes])
        boxes_xywh = np.array([box.bbox for box in boxes], np.float64).reshape(-1, 4)
        scores = np.array([box.score for box in boxes], np.float64)
    if (boxes_xywh[:, 2:] < 0).any() or (abs(boxes_xywh) > MAX_PIXEL).any() or (abs(scores) >= 2**63).any():
        raise DoubtError
    return image_ids, boxes_xywh, categories, scores


def parse_polygons(image: bytes) -> Contours:
    """An image's value in `seg` -> its contours by class id, in the order of the file."""
    with no_collection():
        polygons = _decode(image, dict[str, list[list[tuple[int, int]]]])
        _check_keys(image, len(polygons))
        if not polygons.keys() <= _CLASS_IDS.keys():
            raise DoubtError
        return {_CLASS_IDS[name]: _contours(contours) for name, contours in polygons.items()}


def _contours(contours: Sequence[Sequence[tuple[int, int]]]) -> list[np.ndarray]:
    """One array for all points of a class, of which the contours are slices."""
    lengths = list(map(len, contours))
    flat = chain.from_iterable(chain.from_iterable(contours))
    try:
        points = np.fromiter(flat, np.int64, 2 * sum(lengths)).reshape(-1, 2)
    except OverflowError:
        raise DoubtError from None
    if len(points) and not (points.max() <= MAX_COORDINATE and points.min() >= -MAX_COORDINATE):
        raise DoubtError
    stops = np.cumsum(lengths, dtype=np.int64).tolist()
    points = points.astype(np.int32)
    return [points[stop - length : stop] for stop, length in zip(stops, lengths, strict=True)]


def _integers(values: list[int]) -> np.ndarray:
    try:
        return np.array(values, np.int64)
    except OverflowError:
        raise DoubtError from None


def _decode(data: bytes, kind: Any) -> Any:
    try:
        return msgspec.json.decode(data, type=kind)
    except (msgspec.DecodeError, ValueError, RecursionError):
        raise DoubtError from None


def _pieces(whole: bytes, values: dict[str, msgspec.Raw]) -> dict[str, bytes]:
    pieces = {name: bytes(value) for name, value in values.items()}
    _check_keys(whole, len(pieces) + sum(piece.count(b":") for piece in pieces.values()))
    return pieces


def _check_keys(text: bytes, keys: int) -> None:
    """Of a key that stands twice the decoder keeps the last, and says nothing. But each has its colon: if there are no
    more colons than `keys`, none stands twice. (A name may hold a colon, too: then there is doubt, and no harm.)
    """
    if text.count(b":") != keys:
        raise DoubtError
