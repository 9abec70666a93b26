"""Vehicles from the side, for classification: the silhouette is the class."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from shards.drawings.canvas import Canvas, Colour, Palette, Point, blend, ellipse, rounded, tone
from shards.drawings.scenery import draw_skyline
from shards.drawings.silhouettes import VEHICLES, Part, Vehicle

SIZE = 128
"""Height and width of a picture, pixels."""
PAINT = (0.12, 0.38)
"""Brightness of a vehicle's paint."""
BRIGHT = (0.86, 1.0)
"""Brightness of its glass and of what is painted on it."""


def draw_vehicle(rng: np.random.Generator, kind: str) -> tuple[np.ndarray, np.ndarray]:
    """Draw one vehicle before a cluttered background.

    Returns:
        RGB uint8 [H, W, 3], and where the vehicle is, uint8 0/1 [H, W].
    """
    canvas, palette = Canvas(SIZE, SIZE), Palette(rng)
    ground = rng.uniform(0.66, 0.8) * SIZE
    draw_skyline(canvas, palette, rng, ground - rng.uniform(0.04, 0.18) * SIZE)
    vehicle = VEHICLES[kind]
    scale = min(rng.uniform(0.74, 0.92) * SIZE / vehicle.length, 0.6 * SIZE / vehicle.height)
    left = rng.uniform(0.03, 0.97) * (SIZE - vehicle.length * scale)
    pose = _Pose(left, ground, scale, vehicle.length, bool(rng.integers(2)), rng.normal(0, 0.03))
    width = vehicle.length * scale
    canvas.shade(ellipse((left + width / 2, ground), width * 0.55, SIZE * 0.025), rng.uniform(0.3, 0.7), 1.5)
    _paint(canvas, palette, rng, vehicle, pose)
    return canvas.finish(rng)


@dataclass(frozen=True)
class _Pose:
    """Metres of a vehicle -> pixels of the picture: placed, scaled, mirrored, slightly tilted."""

    left: float
    ground: float
    scale: float
    length: float
    mirrored: bool
    tilt: float

    def __call__(self, point: Point) -> Point:
        x = (self.length - point[0] if self.mirrored else point[0]) - self.length / 2
        y = point[1]
        turned = (
            x * np.cos(self.tilt) - y * np.sin(self.tilt),
            x * np.sin(self.tilt) + y * np.cos(self.tilt),
        )
        return (self.left + (turned[0] + self.length / 2) * self.scale, self.ground - turned[1] * self.scale)


def _paint(canvas: Canvas, palette: Palette, rng: np.random.Generator, vehicle: Vehicle, pose: _Pose) -> None:
    body = palette.colour(*PAINT)
    colours = {
        "body": body,
        "cargo": palette.colour(*PAINT),
        "glass": palette.colour(*BRIGHT),
        "trim": palette.colour(*BRIGHT),
        "chassis": palette.colour(*PAINT),
    }
    for part in vehicle.parts:
        outline = [pose(point) for point in rounded(part.points, part.radius)]
        canvas.polygon(outline, colours[part.role], 1)
        if part.role == "glass":
            _glint(canvas, part, pose, colours["glass"])
    tyre, hub = palette.colour(0.04, 0.2), palette.colour(*BRIGHT)
    for x, radius in vehicle.wheels:
        _paint_wheel(canvas, pose, (x, radius), tyre, hub)


def _glint(canvas: Canvas, part: Part, pose: _Pose, glass: Colour) -> None:
    """A lighter lower half: the sky's reflection."""
    points = np.asarray(part.points)
    (x0, y0), (x1, y1) = points.min(0), points.max(0)
    corners = [(x0 + 0.3 * (x1 - x0), y0), (x0 + 0.55 * (x1 - x0), y0), (x0 + 0.75 * (x1 - x0), y1 - 0.02),
               (x0 + 0.5 * (x1 - x0), y1 - 0.02)]  # fmt: skip
    canvas.polygon([pose(corner) for corner in corners], blend(glass, (255, 255, 255), 0.25), 1)


def _paint_wheel(canvas: Canvas, pose: _Pose, wheel: Point, tyre: Colour, hub: Colour) -> None:
    x, radius = wheel
    centre = pose((x, radius))
    canvas.disc(centre, radius * 1.12 * pose.scale, tone(tyre, 0.5), 1)
    canvas.disc(centre, radius * pose.scale, tyre, 1)
    canvas.disc(centre, radius * 0.55 * pose.scale, hub, 1)
    canvas.disc(centre, radius * 0.18 * pose.scale, tone(hub, 0.5), 1)
