"""The boxes of overlapping tiles made those of the picture: each object once, put together where tiles cut it.

A tile shows the part of an object that lies in it. Where a box ends at an inner border of its tile, that end is
not the object's but the tile's: a neighbour sees on.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from ufo_ds.tasks.detection.boxes import Found, box_iou, joined


@dataclass(frozen=True)
class Tiles:
    """A grid of tiles.

    Attributes:
        windows: float64 [T, 4], what each tile shows: xyxy in pixels of the original.
        inner: bool [T, 4], which of its sides (left, top, right, bottom) the picture goes on behind.
        near: a box that ends so near to an inner side is cut there, pixels of the original.
    """

    windows: np.ndarray
    inner: np.ndarray
    near: float

    def cut(self, boxes: np.ndarray, tiles: np.ndarray | slice) -> np.ndarray:
        """Which ends of boxes [..., 4] are those of `tiles`: bool [..., 4]."""
        return self.inner[tiles] & (np.abs(boxes - self.windows[tiles]) <= self.near)


def merge_tiles(parts: Sequence[Found], tiles: Tiles, iou: float) -> Found:
    """The boxes of a picture from those of its tiles, by falling score.

    1. A box that another tile shows wholly, and cut at fewer of its ends, is dropped: that tile sees the object better.
    2. Boxes of two tiles that agree where both tiles see are one object, if they are the same box altogether, or if
       each is cut where the other goes on. One tile gives at most one box to an object.
    3. Each end of the object is that of its likeliest box which is not cut there; its score is the largest.

    Args:
        parts: the boxes of each tile, not beyond it.
        tiles: where they lie.
        iou: boxes agree above it.
    """
    every, origin = joined(parts), np.repeat(np.arange(len(parts)), [len(part) for part in parts])
    cut = tiles.cut(every.boxes, origin)
    kept = ~_is_seen_better(every.boxes, cut, tiles)
    every, origin, cut = every[kept], origin[kept], cut[kept]
    objects = _group(every, origin, cut, tiles, iou)
    boxes = np.array([_put_together(every, cut, members) for members in objects]).reshape(-1, 4)
    best = np.array([members[every.scores[members].argmax()] for members in objects], np.int64)
    found = Found(boxes, every.scores[best], every.labels[best])
    return found[np.argsort(-found.scores, kind="stable")]


def _is_seen_better(boxes: np.ndarray, cut: np.ndarray, tiles: Tiles) -> np.ndarray:
    """Whether another tile shows all of the box, and more of the object: bool [N]."""
    boxes, cut, windows = boxes[:, None], cut[:, None], tiles.windows
    inside = ((boxes[..., :2] >= windows[:, :2]) & (boxes[..., 2:] <= windows[:, 2:])).all(2)
    there = tiles.cut(boxes, slice(None))
    return (inside & (there <= cut).all(2) & (cut & ~there).any(2)).any(1)


def _group(every: Found, origin: np.ndarray, cut: np.ndarray, tiles: Tiles, iou: float) -> list[np.ndarray]:
    """Indices of the boxes of each object."""
    group = {index: [index] for index in range(len(every))}
    for _, first, second in sorted(_pairs(every, origin, cut, tiles, iou)):
        one, other = group[first], group[second]
        if one is not other and not set(origin[one]) & set(origin[other]):
            one += other
            group.update((index, one) for index in other)
    return [np.array(members) for index, members in group.items() if members[0] == index]


def _pairs(
    every: Found, origin: np.ndarray, cut: np.ndarray, tiles: Tiles, iou: float
) -> Iterator[tuple[float, int, int]]:
    """Boxes of two tiles that are one object: (-agreement, first, second)."""
    windows, members = tiles.windows, [np.flatnonzero(origin == tile) for tile in range(len(tiles.windows))]
    low = np.maximum(windows[:, None, :2], windows[:, :2])
    high = np.minimum(windows[:, None, 2:], windows[:, 2:])
    for a, b in np.argwhere(np.triu((low < high).all(2), 1)):
        first, second = members[a], members[b]
        shared = [every.boxes[index].clip([*low[a, b]] * 2, [*high[a, b]] * 2) for index in (first, second)]
        agreement = box_iou(*shared)
        same = box_iou(every.boxes[first], every.boxes[second]) > iou
        goes_on = _goes_on(cut[first], cut[second], windows[b, :2] - windows[a, :2])
        alike = every.labels[first][:, None] == every.labels[second]
        for i, j in np.argwhere(alike & (agreement > iou) & (same | goes_on)):
            yield -float(agreement[i, j]), int(first[i]), int(second[j])


def _goes_on(first: np.ndarray, second: np.ndarray, step: np.ndarray) -> np.ndarray:
    """Whether boxes of one tile are cut towards another, and those of the other towards the first: bool [N, M].

    Args:
        first: bool [N, 4], where the boxes of the one are cut.
        second: bool [M, 4], of the other.
        step: (x, y) from the one to the other.
    """
    goes_on = np.zeros((len(first), len(second)), bool)
    for axis in np.flatnonzero(step):
        ahead, behind = (axis + 2, axis) if step[axis] > 0 else (axis, axis + 2)
        goes_on |= first[:, None, ahead] & second[None, :, behind]
    return goes_on


def _put_together(every: Found, cut: np.ndarray, members: np.ndarray) -> np.ndarray:
    """The box of an object, xyxy [4]."""
    likely = members[np.argsort(-every.scores[members], kind="stable")]
    boxes, free = every.boxes[likely], ~cut[likely]
    outermost = np.concatenate([boxes[:, :2].min(0), boxes[:, 2:].max(0)])
    return np.where(free.any(0), boxes[free.argmax(0), np.arange(4)], outermost)
