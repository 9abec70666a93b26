"""Class-id masks as polygons and back, exact to the pixel under the challenge's rasteriser."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import cv2
import msgspec
import numpy as np

from ufo_ds.errors import UserError, shown
from ufo_ds.strict_json import no_collection

Polygons = dict[str, list[list[list[int]]]]
"""Contours `[[x, y], ...]` in pixels by class id (as text, for JSON keys). A hole is one more contour."""
Contours = dict[int, list[np.ndarray]]
"""The same as arrays, int32 [N, 2] each."""

MAX_COORDINATE = 2**15 - 1
"""Pixels. Far beyond it `cv2.fillPoly` overflows, or walks over billions of rows."""


def mask_to_polygons(mask_HW: np.ndarray) -> Polygons:
    """A class-id mask as polygons that the official rasteriser turns back into the same mask.

    Why it is exact: a contour that OpenCV traces, a hole's included, runs over pixels of the class itself,
    each step to one of the 8 neighbours, so the outlines that `fillPoly` draws paint nothing foreign. A pixel
    on no contour lies inside an odd number of contours if and only if it belongs to the class: inside the
    outer border of its own component, and inside an outer border together with the border of a hole for
    everything that encloses it. Each class alone being exact, their order does not matter. Every mask is
    painted and compared nevertheless: it costs little.

    Args:
        mask_HW: class ids 0..255, uint8 or another integer type.

    Returns:
        Polygons by class id, ascending: one key for every class that occurs, 0 (the background) included.

    Raises:
        UserError: not two-dimensional, or values that are no ids.
    """
    return {str(class_id): [contour.tolist() for contour in contours]
            for class_id, contours in trace(mask_HW).items()}


def encode_mask(mask_HW: np.ndarray) -> bytes:
    """The same as JSON text, as it stands in a submission."""
    with no_collection():
        return msgspec.json.encode(mask_to_polygons(mask_HW))


def trace(mask_HW: np.ndarray) -> Contours:
    """The same as arrays."""
    mask_HW = _as_mask(mask_HW)
    if not mask_HW.size:
        return {}
    present = np.flatnonzero(cv2.calcHist([mask_HW], [0], None, [256], [0, 256])).tolist()
    contours = {class_id: _traced(cv2.inRange(mask_HW, class_id, class_id)) for class_id in present}
    if np.array_equal(paint(contours.items(), mask_HW.shape), mask_HW):
        return contours
    return {class_id: _runs(mask_HW == class_id) for class_id in present}


def polygons_to_mask(polygons: Mapping[str, Sequence[Any]], size: tuple[int, int]) -> np.ndarray:
    """Rasterise as the official code does: later classes over earlier ones, contours under 3 points dropped.

    Args:
        polygons: contours `[[x, y], ...]` in pixels by class id. Class 0 is the background and not painted.
        size: (H, W) in pixels.

    Returns:
        uint8 [H, W] of class ids, 0 where nothing was painted.

    Raises:
        UserError: a key that is no class id 0..255, a contour that is no list of integer points.
    """
    parsed: list[tuple[int, list[np.ndarray]]] = []
    for name, contours in polygons.items():
        class_id = parse_class_id(name, "polygons")  # "1" and "01" may both be there
        parsed.append((class_id, [parse_contour(contour, f"polygons of class {name}") for contour in contours]))
    return paint(parsed, size)


def paint(contours: Iterable[tuple[int, Sequence[np.ndarray]]], size: tuple[int, int]) -> np.ndarray:
    """The same for contours that are arrays already: int32 [N, 2] each, by class id, in the order of painting."""
    mask_HW = np.zeros(size, np.uint8)
    for class_id, points in contours:
        points = [contour for contour in points if len(contour) >= 3]
        if class_id and points and mask_HW.size:
            cv2.fillPoly(mask_HW, points, class_id)
    return mask_HW


def parse_class_id(name: Any, where: str) -> int:
    """A key of polygons, "0" to "255", as a number. `UserError` begins with `where`."""
    if isinstance(name, str) and name.isascii() and name.isdigit() and len(name) <= 3 and int(name) <= 255:
        return int(name)
    raise UserError(f'{where}: {shown(name)} is no class id; keys of polygons are "0" to "255"')


def parse_contour(contour: Any, where: str) -> np.ndarray:
    """A contour `[[x, y], ...]`, possibly empty, as int32 [N, 2]. `UserError` begins with `where`."""
    try:
        points = np.asarray(contour)
    except ValueError:  # ragged
        points = np.empty(())
    if points.shape == (0,):
        return np.empty((0, 2), np.int32)
    # `trunc` says nothing of infinities, where a division would warn.
    whole = points.dtype.kind in "ui" or (points.dtype.kind == "f" and np.array_equal(points, np.trunc(points)))
    if points.ndim != 2 or points.shape[1] != 2 or not whole:
        raise UserError(f"{where}: {shown(contour, 60)} is no contour; write [[x, y], ...] in whole pixels")
    if points.max() > MAX_COORDINATE or points.min() < -MAX_COORDINATE:
        raise UserError(f"{where}: a coordinate beyond {MAX_COORDINATE}; write [x, y] in pixels of the image")
    return points.astype(np.int32)


def _as_mask(mask: np.ndarray) -> np.ndarray:
    mask = np.asarray(mask)
    if mask.ndim != 2 or mask.dtype.kind not in "uib":
        raise UserError(f"a mask is [H, W] of class ids, not {list(mask.shape)} of {mask.dtype}")
    if mask.dtype != np.uint8 and mask.size and not (mask.min() >= 0 and mask.max() <= 255):
        raise UserError(f"mask values {mask.min()}..{mask.max()} are no class ids; they must be in 0..255")
    return np.ascontiguousarray(mask, dtype=np.uint8)


def _traced(region_HW: np.ndarray) -> list[np.ndarray]:
    """Contours of the pixels at 255, as OpenCV traces them."""
    contours, _ = cv2.findContours(region_HW, cv2.RETR_LIST, cv2.CHAIN_APPROX_SIMPLE)
    return [_padded(contour[:, 0]) for contour in contours]


def _padded(contour: np.ndarray) -> np.ndarray:
    """The reader drops contours of 1 or 2 points, so a dot or a line repeats its last point."""
    missing = 3 - len(contour)
    return contour if missing <= 0 else np.concatenate([contour, np.repeat(contour[-1:], missing, axis=0)])


def _runs(region_HW: np.ndarray) -> list[np.ndarray]:
    """A flat contour for each horizontal run: outlines without an inside, so nothing can go wrong."""
    edges = np.diff(region_HW.astype(np.int8), axis=1, prepend=0, append=0)
    rows, starts = np.nonzero(edges == 1)
    stops = np.nonzero(edges == -1)[1] - 1
    return [np.array([[start, row], [stop, row], [stop, row]], np.int32)
            for row, start, stop in zip(rows, starts, stops, strict=True)]
