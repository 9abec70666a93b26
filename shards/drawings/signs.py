"""Signs of several shapes in a street, for detection: the outline is the class."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from shards.drawings.canvas import Canvas, Colour, Outline, Palette, Point, ellipse, rounded
from shards.drawings.scenery import draw_avenue

SIZE = 160
"""Height and width of a picture, pixels."""
MAX_SIGNS = 4
_COUNT_ODDS = (0.08, 0.32, 0.3, 0.2, 0.1)
_HALF_SIZE = (10.0, 28.0)  # pixels
PLATE = (0.8, 1.0)
"""Luma of every sign's plate, whatever its shape."""
BORDER = (0.04, 0.2)
"""Luma of every sign's border and glyph."""


def _regular(corners: int, turn: float) -> list[Point]:
    angles = 2 * np.pi * (np.arange(corners) + turn) / corners - np.pi / 2
    return [(float(np.cos(a)), float(np.sin(a))) for a in angles]


def _star() -> list[Point]:
    radii = [1.0 if i % 2 == 0 else 0.45 for i in range(10)]
    angles = np.pi * np.arange(10) / 5 - np.pi / 2
    return [(r * float(np.cos(a)), r * float(np.sin(a))) for r, a in zip(radii, angles, strict=True)]


def _dome() -> list[Point]:
    angles = np.pi * np.arange(16) / 15
    return [(-float(np.cos(a)), 0.7 - 1.4 * float(np.sin(a))) for a in angles]


def _cross() -> list[Point]:
    a = 0.36
    right = [(a, -1.0), (a, -a), (1.0, -a), (1.0, a), (a, a), (a, 1.0)]
    return right + [(-x, y) for x, y in reversed(right)]


SHAPES: dict[str, Outline] = {
    "triangle": rounded(_regular(3, 0), 0.2),
    "disc": ellipse((0, 0), 1, 1),
    "square": rounded(_regular(4, 0.5), 0.2),
    "yield": rounded(_regular(3, 0.5), 0.2),
    "diamond": rounded(_regular(4, 0), 0.2),
    "cross": np.array(_cross()),
    "star": np.array(_star()),
    "dome": rounded(np.array(_dome()), 0.2),
}
"""Outlines by name, in units of the half size, y down; a toy download of K classes takes the first K."""

Place = tuple[float, float, float]
"""A sign's centre (x, y) and half size, pixels."""


@dataclass(frozen=True)
class Sign:
    """A drawn sign: its kind, and its box xywh in pixels."""

    kind: str
    bbox: tuple[float, float, float, float]


def draw_signs(rng: np.random.Generator, kinds: list[str]) -> tuple[np.ndarray, list[Sign]]:
    """Draw a street with up to `MAX_SIGNS` signs of the given kinds, none over another.

    Returns:
        RGB uint8 [H, W, 3], and its signs.
    """
    canvas, palette = Canvas(SIZE, SIZE), Palette(rng)
    draw_avenue(canvas, palette, rng)
    places: list[Place] = []
    for _ in range(rng.choice(MAX_SIGNS + 1, p=_COUNT_ODDS)):
        places += _free_place(rng, places)
    for x, y, half in places:  # all posts before the first plate: none hides one
        if rng.random() < 0.6:
            canvas.line((x, y), (x, SIZE), max(1.5, half * 0.13), palette.colour(0.2, 0.9))
    signs = [_paint_sign(canvas, palette, rng, str(rng.choice(kinds)), place) for place in places]
    return canvas.finish(rng)[0], signs


def _free_place(rng: np.random.Generator, taken: list[Place]) -> list[Place]:
    """A place that keeps clear of those taken; none where the picture is too full."""
    for _ in range(40):
        half = float(np.exp(rng.uniform(*np.log(_HALF_SIZE))))
        x, y = (float(v) for v in rng.uniform(half + 2, SIZE - half - 2, 2))
        if all(max(abs(x - ox), abs(y - oy)) > half + other + 4 for ox, oy, other in taken):
            return [(x, y, half)]
    return []


def _paint_sign(canvas: Canvas, palette: Palette, rng: np.random.Generator, kind: str, place: Place) -> Sign:
    """Paint shadow, border, plate and glyph; returns the sign with the box of its outline."""
    x, y, half = place
    plate, border = palette.colour(*PLATE), palette.colour(*BORDER)
    turn, squash = rng.normal(0, 0.06), rng.uniform(0.88, 1.0)
    rotation = np.array([[np.cos(turn), np.sin(turn)], [-np.sin(turn), np.cos(turn)]])
    outline = np.asarray(SHAPES[kind]) @ rotation * (squash * half, half) + (x, y)
    middle = outline.mean(0)
    canvas.shade(outline + half * 0.09, 0.45, half * 0.06)
    canvas.polygon(outline, border)
    canvas.polygon((outline - middle) * 0.74 + middle, plate)
    _paint_glyph(canvas, rng, (float(middle[0]), float(middle[1])), half * 0.26, border)
    low, size = outline.min(0), np.ptp(outline, axis=0)
    left, top, width, height = (round(float(v), 2) for v in (*low, *size))
    return Sign(kind, (left, top, width, height))


def _paint_glyph(canvas: Canvas, rng: np.random.Generator, centre: Point, half: float, ink: Colour) -> None:
    """One of a few figures, or none, drawn without looking at the kind of sign."""
    x, y = centre
    figure = rng.integers(4)
    if figure == 0:
        canvas.rectangle(x - half, y - half * 0.3, x + half, y + half * 0.3, ink)
    elif figure == 1:
        canvas.rectangle(x - half * 0.3, y - half, x + half * 0.3, y + half, ink)
    elif figure == 2:
        canvas.disc(centre, half * 0.7, ink)
