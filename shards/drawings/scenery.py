"""What stands behind the things that have a label: sky, houses, trees, poles and ground, out of focus."""

from __future__ import annotations

import numpy as np

from shards.drawings.canvas import Canvas, Palette, ellipse, tone

HAZE = (0.5, 0.78)
"""Luma of a skyline: a vehicle before it is darker, its windows are lighter, whatever its class."""
TOWN = (0.3, 0.72)
"""Luma of an avenue: a sign's plate is lighter, its border darker, whatever its class."""


def draw_skyline(canvas: Canvas, palette: Palette, rng: np.random.Generator, horizon: float) -> None:
    """Fill a canvas with plain blocks and bushes before the sky; `horizon` in pixels from the top."""
    width, height = canvas.width, canvas.height
    canvas.gradient(0, horizon, palette.colour(*HAZE), palette.colour(*HAZE))
    canvas.gradient(horizon, height, palette.colour(*HAZE), palette.colour(*HAZE))
    for _ in range(rng.integers(3, 8)):
        x, extent = rng.uniform(-0.1, 1) * width, rng.uniform(0.08, 0.3) * width
        top = horizon - rng.uniform(0.05, 0.55) * height
        if rng.random() < 0.6:
            canvas.rectangle(x, top, x + extent, horizon, palette.colour(*HAZE))
        else:
            canvas.polygon(ellipse((x, horizon - extent * 0.2), extent * 0.7, extent * 0.6), palette.colour(*HAZE))
    for _ in range(rng.integers(0, 4)):
        x, top = rng.uniform(0, 1) * width, rng.uniform(0.05, 0.4) * height
        canvas.line((x, horizon + 3), (x, top), rng.uniform(1, 2.5), palette.colour(*HAZE))
    kerb = horizon + rng.uniform(0.02, 0.1) * height
    canvas.rectangle(0, kerb, width, kerb + rng.uniform(1, 3), palette.colour(*HAZE))
    canvas.soften(rng.uniform(0.5, 1.4))


def draw_avenue(canvas: Canvas, palette: Palette, rng: np.random.Generator) -> None:
    """Fill a canvas with a street that runs away between houses and trees."""
    width, height = canvas.width, canvas.height
    horizon = rng.uniform(0.45, 0.7) * height
    canvas.gradient(0, horizon, palette.colour(*TOWN), palette.colour(*TOWN))
    for _ in range(rng.integers(4, 9)):
        _draw_house(canvas, palette, rng, horizon)
    for _ in range(rng.integers(1, 5)):
        _draw_tree(canvas, palette, rng, horizon)
    canvas.gradient(horizon, height, palette.colour(*TOWN), palette.colour(*TOWN))
    end, road = rng.uniform(0.3, 0.7) * width, palette.colour(*TOWN)
    left, right = rng.uniform(-0.3, 0.3) * width, rng.uniform(0.7, 1.3) * width
    canvas.polygon([(end - 3, horizon), (end + 3, horizon), (right, height), (left, height)], road)
    middle = (left + right) / 2
    canvas.polygon([(end, horizon), (middle + 2, height), (middle - 2, height)], palette.colour(*TOWN))
    for _ in range(rng.integers(1, 5)):
        x, foot, top = rng.uniform(0, 1) * width, horizon + rng.uniform(0, 30), rng.uniform(0, 0.4) * height
        canvas.line((x, foot), (x, top), rng.uniform(1, 3), palette.colour(*TOWN))
    canvas.soften(rng.uniform(0.5, 1.2))


def _draw_house(canvas: Canvas, palette: Palette, rng: np.random.Generator, horizon: float) -> None:
    """A front with bands of windows, fainter than a sign's border."""
    x, width = rng.uniform(-0.15, 0.95) * canvas.width, rng.uniform(0.12, 0.4) * canvas.width
    top, wall = horizon - rng.uniform(0.1, 0.6) * canvas.height, palette.colour(*TOWN)
    canvas.rectangle(x, top, x + width, horizon, wall)
    pane = tone(wall, rng.uniform(0.75, 0.92))
    for y in np.arange(top + 6, horizon - 8, rng.uniform(11, 16)):
        canvas.rectangle(x + 3, float(y), x + width - 3, float(y) + 4, pane)


def _draw_tree(canvas: Canvas, palette: Palette, rng: np.random.Generator, horizon: float) -> None:
    """A crown of blobs."""
    x, radius = rng.uniform(0, 1) * canvas.width, rng.uniform(0.05, 0.14) * canvas.width
    leaf = palette.colour(*TOWN)
    for _ in range(9):
        dx, dy = rng.normal(0, radius * 0.6, 2)
        rx, ry = radius * rng.uniform(0.3, 0.6), radius * rng.uniform(0.25, 0.5)
        crown = ellipse((x + dx, horizon - radius + dy * 0.8), rx, ry)
        canvas.polygon(crown, tone(leaf, rng.uniform(0.8, 1.2)))
