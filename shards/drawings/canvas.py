"""A canvas with clean edges, a label under every stroke, and the light over the finished picture."""

from __future__ import annotations

import colorsys
from collections.abc import Sequence
from functools import cache

import cv2
import numpy as np

Point = tuple[float, float]
"""(x, y) in pixels of the finished picture."""
Outline = Sequence[Point] | np.ndarray
"""Corners in order; an array is [corners, 2] as (x, y)."""
Colour = tuple[float, float, float]
"""RGB, 0..255."""

_SHIFT = 4  # fractional bits of OpenCV's fixed-point coordinates


class Canvas:
    """Paints at a multiple of the final resolution, so that edges come out smooth and labels exact.

    Args:
        height: pixels of the finished picture.
        width: likewise.
        label: of the untouched canvas.
        scale: pixels painted a finished pixel, in each direction; odd, so that a pixel has a middle.
    """

    def __init__(self, height: int, width: int, label: int = 0, scale: int = 3) -> None:
        self.height, self.width, self.scale = height, width, scale
        self.pixels = np.zeros((height * scale, width * scale, 3), np.uint8)
        self.labels = np.full((height * scale, width * scale), label, np.uint8)

    def _fixed(self, points: np.ndarray) -> np.ndarray:
        # OpenCV's coordinates are those of pixel centres, ours those of pixel corners.
        return np.rint((points * self.scale - 0.5) * (1 << _SHIFT)).astype(np.int32)

    def polygon(self, points: Outline, colour: Colour, label: int | None = None) -> None:
        """Fill a polygon; with `label` the pixels are labelled so, else they keep their label."""
        fixed = [self._fixed(np.asarray(points, np.float64))]
        cv2.fillPoly(self.pixels, fixed, colour, shift=_SHIFT)
        if label is not None:
            cv2.fillPoly(self.labels, fixed, label, shift=_SHIFT)

    def rectangle(self, x0: float, y0: float, x1: float, y1: float, colour: Colour, label: int | None = None) -> None:
        """Fill an upright rectangle."""
        self.polygon([(x0, y0), (x1, y0), (x1, y1), (x0, y1)], colour, label)

    def disc(self, centre: Point, radius: float, colour: Colour, label: int | None = None) -> None:
        """Fill a circle."""
        x, y = self._fixed(np.array(centre, np.float64)).tolist()
        fixed_radius = round(radius * self.scale * (1 << _SHIFT))
        cv2.circle(self.pixels, (x, y), fixed_radius, colour, cv2.FILLED, shift=_SHIFT)
        if label is not None:
            cv2.circle(self.labels, (x, y), fixed_radius, label, cv2.FILLED, shift=_SHIFT)

    def line(self, start: Point, end: Point, width: float, colour: Colour, label: int | None = None) -> None:
        """Draw a straight bar of `width` pixels."""
        (x0, y0), (x1, y1) = start, end
        length = float(np.hypot(x1 - x0, y1 - y0)) or 1.0
        dx, dy = -(y1 - y0) / length * width / 2, (x1 - x0) / length * width / 2
        self.polygon([(x0 + dx, y0 + dy), (x1 + dx, y1 + dy), (x1 - dx, y1 - dy), (x0 - dx, y0 - dy)], colour, label)

    def gradient(self, y0: float, y1: float, top: Colour, bottom: Colour, label: int | None = None) -> None:
        """Fill the rows from `y0` to `y1` with a vertical gradient."""
        rows = slice(round(y0 * self.scale), round(y1 * self.scale))
        count = self.pixels[rows].shape[0]
        mix = np.linspace(0, 1, count)[:, None, None]
        self.pixels[rows] = (np.asarray(top) * (1 - mix) + np.asarray(bottom) * mix).astype(np.uint8)
        if label is not None:
            self.labels[rows] = label

    def soften(self, sigma: float) -> None:
        """Blur what is painted so far by `sigma` pixels of the finished picture: a background steps back."""
        small = cv2.resize(self.pixels, (self.width, self.height), interpolation=cv2.INTER_AREA)
        small = cv2.GaussianBlur(small, (0, 0), sigma)
        self.pixels = cv2.resize(small, self.pixels.shape[1::-1], interpolation=cv2.INTER_LINEAR)

    def shade(self, points: Outline, strength: float, sigma: float) -> None:
        """Darken a polygon with soft borders (a shadow) by `strength`, 0..1."""
        outline = np.asarray(points, np.float64)
        x0, y0 = np.maximum(np.floor(outline.min(0) - 3 * sigma) * self.scale, 0).astype(int)
        x1, y1 = np.ceil((outline.max(0) + 3 * sigma) * self.scale).astype(int)
        region = self.pixels[y0 : max(y0, y1), x0 : max(x0, x1)]
        if region.size == 0:
            return
        mask = np.zeros(region.shape[:2], np.float32)
        cv2.fillPoly(mask, [self._fixed(outline - [x0 / self.scale, y0 / self.scale])], strength, shift=_SHIFT)
        mask = cv2.GaussianBlur(mask, (0, 0), sigma * self.scale)
        region[:] = region * (1 - mask[..., None])

    def finish(self, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        """The picture under a random light: RGB uint8 [H, W, 3] and labels uint8 [H, W]."""
        size = (self.width, self.height)
        image = cv2.resize(self.pixels, size, interpolation=cv2.INTER_AREA)
        middle = self.scale // 2
        return _lit(image, rng), self.labels[middle :: self.scale, middle :: self.scale].copy()


def _lit(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Gamma, a tint, light falling from one side, and sensor noise."""
    # In float64: rounding to bytes then hides the last digits, in which machines may differ.
    height, width = image.shape[:2]
    angle = rng.uniform(0, 2 * np.pi)
    y, x = np.ogrid[0:height, 0:width]
    slope = (x / width - 0.5) * np.cos(angle) + (y / height - 0.5) * np.sin(angle)
    light = rng.uniform(0.85, 1.1) * (1 + rng.uniform(0, 0.35) * slope)
    tint = 1 + rng.uniform(-0.06, 0.06, 3)
    curve = (np.arange(256) / 255) ** rng.uniform(0.85, 1.2) * 255
    noise = rng.standard_normal(image.shape) * (255 * rng.uniform(0.003, 0.012))
    lit = curve[image] * light[..., None] * tint + noise
    return np.clip(np.rint(lit), 0, 255).astype(np.uint8)


class Palette:
    """Colours that go together: a picture's own, drawn anew for every surface."""

    def __init__(self, rng: np.random.Generator) -> None:
        self._rng = rng
        self._hues = rng.uniform(0, 1) + np.array([0, 0.08, 0.45, 0.55])
        self._saturation = rng.uniform(0.1, 0.42)

    def colour(self, low: float = 0.25, high: float = 0.9) -> Colour:
        """Any colour with a luma in `low`..`high`, 0..1."""
        hue = (self._rng.choice(self._hues) + self._rng.normal(0, 0.03)) % 1
        saturation = min(0.8, self._saturation * self._rng.uniform(0.3, 1.5))
        full = np.array(colorsys.hsv_to_rgb(hue, saturation, 1.0)) * 255
        wanted, given = 255 * self._rng.uniform(low, high), brightness(full)
        # Towards black or towards white: saturation alone would make some hues far darker than others.
        lit = full * wanted / given if wanted < given else 255 - (255 - full) * (255 - wanted) / (255 - given)
        red, green, blue = lit.tolist()
        return (red, green, blue)


def brightness(colour: Colour | np.ndarray) -> float:
    """Luma of an RGB colour, 0..255."""
    return 0.299 * colour[0] + 0.587 * colour[1] + 0.114 * colour[2]


def tone(colour: Colour, factor: float) -> Colour:
    """`colour` made darker (`factor` < 1) or lighter."""
    red, green, blue = (min(255.0, channel * factor) for channel in colour)
    return (red, green, blue)


def blend(first: Colour, second: Colour, share: float) -> Colour:
    """`first` with `share` (0..1) of `second`."""
    red, green, blue = (a * (1 - share) + b * share for a, b in zip(first, second, strict=True))
    return (red, green, blue)


def ellipse(centre: Point, rx: float, ry: float, count: int = 40) -> np.ndarray:
    """The outline of an upright ellipse, float64 [count, 2] as (x, y)."""
    return _unit_circle(count) * (rx, ry) + centre


@cache
def _unit_circle(count: int) -> np.ndarray:
    angles = np.arange(count) * (2 * np.pi / count)
    return np.stack([np.cos(angles), np.sin(angles)], 1)


def rounded(points: Outline, radius: float) -> list[Point]:
    """A polygon with every corner cut by a curve that begins `radius` before it (less on short edges)."""
    corners = np.asarray(points, np.float64)
    result: list[Point] = []
    for before, corner, after in zip(np.roll(corners, 1, 0), corners, np.roll(corners, -1, 0), strict=True):
        start = corner + _towards(corner, before, radius)
        end = corner + _towards(corner, after, radius)
        for t in np.linspace(0, 1, 6):
            x, y = (1 - t) ** 2 * start + 2 * t * (1 - t) * corner + t**2 * end
            result.append((float(x), float(y)))
    return result


def _towards(corner: np.ndarray, other: np.ndarray, radius: float) -> np.ndarray:
    way = other - corner
    length = float(np.hypot(*way))
    return way * (min(radius, length / 2) / max(length, 1e-9))
