"""Where a picture lies on the network's canvas: one map for its pixels, its mask and its boxes."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from ufo_ds.data.decode import DecodeError
from ufo_ds.data.pixels import GREY
from ufo_ds.data.resampling import Pair, cut, rescale


def fit_scale(size: Pair, canvas: Pair) -> float:
    """The factor by which a picture of `size` (H, W) just fits a canvas (H, W), its aspect kept."""
    # The excess, far below a pixel, keeps W * (canvas / W) from falling short of the canvas by rounding.
    return min(canvas[0] / size[0], canvas[1] / size[1]) * (1 + 1e-12)


@dataclass(frozen=True)
class Placement:
    """A window of the original, scaled and laid on the canvas: canvas = (original - start) * scale + offset.

    The scale is exactly the same in both directions: sizes are cut to whole pixels, instead of the scale
    being bent to meet them. So one number takes boxes there and back without error.

    Attributes:
        scale: canvas pixels an original pixel.
        start: (top, left) of the window, original pixels.
        extent: (height, width) of the window, original pixels.
        offset: (top, left) of the picture on the canvas, pixels.
        size: (height, width) of the picture on the canvas, pixels.
        canvas: (height, width), pixels.
        reduction: of the decoded picture; one of its pixels covers so many of the original, along an axis.
    """

    scale: float
    start: Pair
    extent: Pair
    offset: Pair
    size: Pair
    canvas: Pair
    reduction: int = 1

    @classmethod
    def at_origin(cls, size: Pair, canvas: Pair, scale: float) -> Placement:
        """As much of a picture of `size` (H, W) as the canvas holds, both from their top left corners.

        Raises:
            DecodeError: less than a pixel would be left of one side.
        """
        rows, columns = (_cover(*axis, scale) for axis in zip(size, canvas, strict=True))
        return cls(scale, (0, 0), (rows[0], columns[0]), (0, 0), (rows[1], columns[1]), canvas)

    @classmethod
    def at_random(cls, size: Pair, canvas: Pair, scale: float, hold: np.ndarray | None = None) -> Placement:
        """Along each axis a random part of a larger picture, or a random place for a smaller one.

        Of all parts only those that hold a box, xyxy in pixels of the original, where one is given; of a box that is
        larger than they are, those that it fills. Draws from torch's global generator. Otherwise as `at_origin`.
        """
        fixed = cls.at_origin(size, canvas, scale)
        start = _draw(size, fixed.extent) if hold is None else fixed._draw_around(hold, size)
        return cls(scale, start, fixed.extent, _draw(canvas, fixed.size), fixed.size, canvas)

    @classmethod
    def around(cls, size: Pair, canvas: Pair, scale: float, pixel: Pair) -> Placement:
        """As `at_random`, but of a larger picture a part that holds `pixel` (row, column), wherever in it."""
        fixed = cls.at_origin(size, canvas, scale)
        first = [max(0, place - part + 1) for place, part in zip(pixel, fixed.extent, strict=True)]
        last = [min(place, all_ - part) for place, all_, part in zip(pixel, size, fixed.extent, strict=True)]
        start = tuple(low + int(torch.randint(high - low + 1, ())) for low, high in zip(first, last, strict=True))
        return cls(scale, start, fixed.extent, _draw(canvas, fixed.size), fixed.size, canvas)

    def reduced(self, reduction: int) -> Placement:
        """The same for a picture decoded at 1/`reduction` of its size, `scale * reduction` <= 1.

        The window's corner moves up and left to a whole pixel of that picture, by less than a pixel of the canvas;
        boxes and masks go with it.
        """
        top, left = (first - first % reduction for first in self.start)
        return replace(self, start=(top, left), reduction=reduction)

    def window(self, image: np.ndarray) -> np.ndarray:
        """The window of the picture [h, w, ...] as it was decoded, a view."""
        return cut(image, self.start, self.extent, self.reduction)

    def paste(self, window: np.ndarray) -> Tensor:
        """Scale the window (antialiased) onto a grey canvas.

        Args:
            window: uint8 [h, w, 3], pixels of the picture as it was decoded.

        Returns:
            uint8 [3, H, W], contiguous.
        """
        scaled = rescale(window, self.scale, self.reduction)[:, : self.size[0], : self.size[1]]
        if self.size == self.canvas:
            return scaled.contiguous()
        pixels = torch.full((3, *self.canvas), GREY, dtype=torch.uint8)
        self._picture(pixels)[:] = scaled
        return pixels

    def paste_mask(self, mask: np.ndarray, fill: int) -> Tensor:
        """Scale a mask of the original, uint8 [H, W], by nearest pixel centres; uint8, `fill` around it."""
        rows, columns = (self._nearest(axis) for axis in (0, 1))
        pixels = torch.full(self.canvas, fill, dtype=torch.uint8)
        self._picture(pixels)[:] = torch.from_numpy(mask.take(rows, 0).take(columns, 1))
        return pixels

    def boxes(self, xyxy: np.ndarray) -> np.ndarray:
        """Boxes [N, 4] xyxy in pixels of the original -> xyxy in pixels of the canvas, not clipped."""
        return (xyxy - _twice(self.start)) * self.scale + _twice(self.offset)

    def clip(self, xyxy: np.ndarray) -> np.ndarray:
        """What of boxes [N, 4], xyxy in pixels of the canvas, lies on the picture."""
        low = _twice(self.offset)
        return np.clip(xyxy, low, low + _twice(self.size))

    def _draw_around(self, xyxy: np.ndarray, room: Pair) -> Pair:
        """A random corner in `room` from which a window like this shows a box of it."""
        corner = []
        for axis, low, high in zip((0, 1), xyxy[1::-1], xyxy[:1:-1], strict=True):
            shown = math.floor(self.size[axis] / self.scale)  # of the last original pixel only a part may be
            bounds = sorted((math.ceil(high) - shown, math.floor(low)))
            first, last = (min(max(bound, 0), room[axis] - self.extent[axis]) for bound in bounds)
            corner.append(int(torch.randint(first, last + 1, ())))
        return corner[0], corner[1]

    def _picture(self, pixels: Tensor) -> Tensor:
        (top, left), (height, width) = self.offset, self.size
        return pixels[..., top : top + height, left : left + width]

    def _nearest(self, axis: int) -> np.ndarray:
        places = ((np.arange(self.size[axis]) + 0.5) / self.scale).astype(np.int64)
        return self.start[axis] + places.clip(max=self.extent[axis] - 1)


def _cover(length: int, canvas: int, scale: float) -> Pair:
    """Original pixels along an axis that cover its canvas, if there are enough; and canvas pixels covered."""
    extent = min(length, int(canvas / scale) + 1)
    covered = min(canvas, math.floor(extent * scale))
    if covered < 1:
        raise DecodeError(f"a side of {length} pixels vanishes at scale {scale:.3g}")
    return extent, covered


def _draw(room: Pair, taken: Pair) -> Pair:
    """A random corner for what takes `taken` of `room`."""
    first, second = (int(torch.randint(all_ - part + 1, ())) for all_, part in zip(room, taken, strict=True))
    return first, second


def _twice(pair: Pair) -> np.ndarray:
    """(y, x) -> x, y, x, y."""
    return np.array([pair[1], pair[0]] * 2, np.float64)
