"""A submission taken apart image by image, none of it parsed before it is needed, for files with nothing odd in them.

What is accepted here, `ufo_ds.submission` accepts, too, and with the same values. Everything else raises `DoubtError`,
be it a mistake or merely unusual, and the caller reads the file the thorough way, which judges and has the words.
"""

from __future__ import annotations

from itertools import accumulate
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


class Box(msgspec.Struct, gc=False):
    """An entry of `dec`."""

    image_id: int
    category_id: int
    bbox: tuple[float, float, float, float]
    score: float


class _Sections(msgspec.Struct, forbid_unknown_fields=True):
    cls: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET
    dec: list[Box] | msgspec.UnsetType = msgspec.UNSET
    seg: list[_Raw] | _Raw | msgspec.UnsetType = msgspec.UNSET


def take_apart(data: bytes) -> dict[str, Any]:
    """The sections of a submission file: `cls` as text, `dec` as a list of `Box`, `seg` as text by file name."""
    data = data.removeprefix(_MARK)
    with no_collection():
        value = _decode(data, _Sections)
        sections: dict[str, Any] = {}
        keys = 0  # of all objects
        if value.cls is not msgspec.UNSET:
            sections["cls"] = bytes(value.cls)
            keys += 1 + sections["cls"].count(b":")
        if value.dec is not msgspec.UNSET:
            sections["dec"] = value.dec
            keys += 1 + 4 * len(value.dec)
        if value.seg is not msgspec.UNSET:
            sections["seg"] = _by_name(value.seg)
            keys += 1 + len(sections["seg"]) + sum(text.count(b":") for text in sections["seg"].values())
    _check_keys(data, keys)
    return sections


def _by_name(images: list[dict[str, msgspec.Raw]] | dict[str, msgspec.Raw]) -> dict[str, bytes]:
    entries = [images] if isinstance(images, dict) else images
    texts = {name: bytes(text) for entry in entries for name, text in entry.items()}
    if "" in texts or (isinstance(images, list) and not (len(texts) == len(images) and all(map(len, images)))):
        raise DoubtError
    return texts


def box_columns(boxes: list[Box]) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Image ids int64 [N], boxes float64 [N, 4] xywh, category ids int64 [N], scores float64 [N]."""
    image_ids = _integers([box.image_id for box in boxes])
    categories = _integers([box.category_id for box in boxes])
    boxes_xywh = np.array([box.bbox for box in boxes], np.float64).reshape(-1, 4)
    scores = np.array([box.score for box in boxes], np.float64)
    if (boxes_xywh[:, 2:] < 0).any() or (abs(boxes_xywh) > MAX_PIXEL).any() or (abs(scores) >= 2**63).any():
        raise DoubtError
    return image_ids, boxes_xywh, categories, scores


def parse_polygons(image: bytes) -> Contours:
    """An image's value in `seg` -> its contours by class id, in the order of the file."""
    polygons = {name: bytes(text) for name, text in _decode(image, _Raw).items()}
    _check_keys(image, len(polygons))
    if not polygons.keys() <= _CLASS_IDS.keys():
        raise DoubtError
    return {_CLASS_IDS[name]: _contours(text) for name, text in polygons.items()}


def _contours(text: bytes) -> list[np.ndarray]:
    """Contours of whole numbers from 0 up, from text that is known to be JSON; slices of one array.

    An object for each of five million points would take most of the time of scoring. Without its digits the text shows
    what is nested in what, and each `[,]` is a point of two numbers.
    """
    skeleton = text.translate(None, b" \n\r\t0123456789").replace(b"[,]", b"p")
    contours = skeleton[2:-2].replace(b"],[", b";")
    nested = skeleton.startswith(b"[[") and skeleton.endswith(b"]]") and not contours.translate(None, b"p,;")
    if not (nested or skeleton == b"[]"):
        raise DoubtError
    lengths = [contour.count(b"p") for contour in contours.split(b";")] if nested else []
    numbers = _numbers(text)
    if len(numbers) != 2 * sum(lengths) or numbers.max(initial=0) > MAX_COORDINATE:
        raise DoubtError  # a number that is in no point, or far away
    points = numbers.reshape(-1, 2)
    return [points[stop - length : stop] for stop, length in zip(accumulate(lengths), lengths, strict=True)]


def _numbers(text: bytes) -> np.ndarray:
    """Every run of up to five digits as a number, int32."""
    digits = np.frombuffer(text, np.uint8) - np.uint8(ord("0"))  # all that is none comes out as 10 or more
    is_digit = digits < 10
    places = np.flatnonzero(is_digit[:-1] & ~is_digit[1:])
    values, more = np.zeros(len(places), np.int32), np.ones(len(places), bool)
    for scale in (1, 10, 100, 1000, 10_000):
        values += np.where(more, digits[places], 0) * np.int32(scale)
        places -= 1
        more &= is_digit[places]
        if not more.any():
            return values
    raise DoubtError


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


def _check_keys(text: bytes, keys: int) -> None:
    """Of a key that stands twice the decoder keeps the last, and says nothing. But each has its colon: if there are no
    more colons than `keys`, none stands twice. (A name may hold a colon, too: then there is doubt, and no harm.)
    """
    if text.count(b":") != keys:
        raise DoubtError
