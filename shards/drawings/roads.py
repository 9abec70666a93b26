"""A street seen from a car, for segmentation: place, outline, texture and context tell the classes."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from shards.drawings.canvas import Canvas, Colour, Palette, Point, blend, brightness, ellipse, rounded, tone

HEIGHT, WIDTH = 128, 256
"""Of a picture, pixels."""
IGNORE = 255
"""Label of the own car's bonnet."""

LUMA = {
    "sky": (0.6, 0.95),
    "building": (0.4, 0.85),
    "vegetation": (0.12, 0.42),
    "sidewalk": (0.45, 0.85),
    "road": (0.18, 0.5),
    "car": (0.25, 0.9),
    "person": (0.1, 0.9),
}
"""How bright a kind may be, 0..1. The ranges overlap, and hues say nothing: place and texture decide."""
KINDS = ("road", "sky", "building", "vegetation", "sidewalk", "car", "person")
"""What can be drawn; a toy download of K classes draws the first K alone."""


@dataclass
class Scene:
    """A picture in the making.

    Attributes:
        ids: label of each kind that is drawn; a kind without is left out.
        vanish: the vanishing point, pixels.
        kerbs: x of the road's left and right border at the lower edge.
        walks: x of the pavements' outer borders at the lower edge.
    """

    canvas: Canvas
    palette: Palette
    rng: np.random.Generator
    ids: dict[str, int]
    vanish: Point
    kerbs: Point
    walks: Point

    def at(self, x: float, nearness: float) -> Point:
        """The point of the ground on the line from `x` at the lower edge (nearness 1) to the horizon (0)."""
        vx, vy = self.vanish
        return (vx + (x - vx) * nearness, vy + (HEIGHT - vy) * nearness)

    def surface(self, kind: str) -> Colour:
        """A colour for a surface of that kind."""
        return self.palette.colour(*LUMA[kind])

    def textured(self, colour: Colour) -> Colour:
        """A shade for the pattern on a surface, of a contrast that says nothing about the surface."""
        strength = self.rng.uniform(0.25, 0.5)
        return tone(colour, 1 - strength if brightness(colour) > 100 else 1 + 2 * strength)


def draw_road(rng: np.random.Generator, ids: dict[str, int]) -> tuple[np.ndarray, np.ndarray]:
    """Draw a street scene.

    Args:
        rng: the picture's own generator.
        ids: label of each kind to be drawn; `road` and `sky` must be among them.

    Returns:
        RGB uint8 [H, W, 3] and labels uint8 [H, W] with 255 on the own bonnet.
    """
    vanish = (rng.uniform(0.35, 0.65) * WIDTH, rng.uniform(0.38, 0.5) * HEIGHT)
    kerbs = (rng.uniform(-0.15, 0.18) * WIDTH, rng.uniform(0.82, 1.15) * WIDTH)
    walks = (kerbs[0] - rng.uniform(0.3, 0.5) * WIDTH, kerbs[1] + rng.uniform(0.3, 0.5) * WIDTH)
    scene = Scene(Canvas(HEIGHT, WIDTH, ids["sky"]), Palette(rng), rng, ids, vanish, kerbs, walks)
    _draw_sky(scene)
    _draw_verge(scene)
    _draw_far_end(scene)
    for side in (0, 1):
        _draw_side(scene, side)
    _draw_ground(scene)
    _draw_things(scene)
    _draw_bonnet(scene)
    return scene.canvas.finish(rng)


def _draw_sky(scene: Scene) -> None:
    rng, canvas = scene.rng, scene.canvas
    top = scene.surface("sky")
    canvas.gradient(0, HEIGHT, top, scene.surface("sky"))
    for _ in range(rng.integers(0, 4)):
        x, y = rng.uniform(0, WIDTH), rng.uniform(0, 0.35 * HEIGHT)
        cloud = scene.surface("sky")
        for _ in range(4):
            centre = (x + rng.normal(0, 9), y + rng.normal(0, 1.5))
            canvas.polygon(ellipse(centre, rng.uniform(6, 13), rng.uniform(2, 4)), cloud)
    canvas.soften(1.2)


def _draw_verge(scene: Scene) -> None:
    """All that lies below the horizon, so that no sky shows between the houses' feet."""
    kind = "sidewalk" if "sidewalk" in scene.ids else "road"
    scene.canvas.rectangle(0, scene.vanish[1], WIDTH, HEIGHT, scene.surface(kind), scene.ids[kind])


def _draw_far_end(scene: Scene) -> None:
    """What closes the street at the horizon."""
    kind = "vegetation" if scene.rng.random() < 0.5 else "building"
    if kind not in scene.ids:
        return
    x, y = scene.vanish
    if kind == "building":
        scene.canvas.rectangle(x - 20, y - scene.rng.uniform(8, 16), x + 20, y + 2, scene.surface(kind),
                               scene.ids[kind])  # fmt: skip
    else:
        _draw_foliage(scene, (x, y - 3), 24, 11, scene.surface("vegetation"))


def _draw_side(scene: Scene, side: int) -> None:
    """Houses and hedges along one side, far to near."""
    rng = scene.rng
    cuts = [0.09, 0.32, 1.6]
    for far, near in pairwise(cuts):
        house = "building" in scene.ids and (rng.random() < 0.6 or "vegetation" not in scene.ids)
        if house:
            _draw_house(scene, side, far, near)
        elif "vegetation" in scene.ids:
            _draw_hedge(scene, side, far, near)


def _draw_house(scene: Scene, side: int, far: float, near: float) -> None:
    """A front along the street in perspective, with rows of windows, and the gable towards us."""
    canvas, rng, label = scene.canvas, scene.rng, scene.ids["building"]
    wall, height = scene.surface("building"), rng.uniform(0.55, 1.5) * HEIGHT
    line = scene.walks[side]
    pane, gable = scene.textured(wall), tone(wall, 0.85)
    (fx, fy), (nx, ny) = scene.at(line, far), scene.at(line, near)
    outward = (-1 if side == 0 else 1) * WIDTH
    canvas.rectangle(fx, fy - height * far, fx + outward, fy + 2, gable, label)
    canvas.polygon([(fx, fy), (nx, ny), (nx, ny - height * near), (fx, fy - height * far)], wall, label)
    rows, columns = max(2, round(height / HEIGHT * 4)), int(rng.integers(3, 5))
    for row in range(rows):
        low, high = (row + 0.3) / rows, (row + 0.75) / rows
        for column in range(columns):
            start, stop = (far + (near - far) * (column + share) / columns for share in (0.25, 0.75))
            (ax, ay), (bx, by) = scene.at(line, start), scene.at(line, stop)
            tall, taller = height * start, height * stop
            window = [(ax, ay - tall * low), (bx, by - taller * low), (bx, by - taller * high),
                      (ax, ay - tall * high)]  # fmt: skip
            canvas.polygon(window, pane)


def _draw_hedge(scene: Scene, side: int, far: float, near: float) -> None:
    """Trees and bushes that stand where a house might."""
    leaf = scene.surface("vegetation")
    for nearness in np.linspace(far, min(near, 1.1), 4):
        x, y = scene.at(scene.walks[side], float(nearness))
        size = float(nearness) * HEIGHT
        outward = (-1 if side == 0 else 1) * size * 0.35
        _draw_foliage(scene, (x + outward, y - size * 0.3), size * 0.58, size * 0.4, leaf)


def _draw_foliage(scene: Scene, centre: Point, rx: float, ry: float, leaf: Colour) -> None:
    """A mass of leaves: blobs of many shades."""
    dark = scene.textured(leaf)
    label = scene.ids["vegetation"]
    scene.canvas.polygon(ellipse(centre, rx * 0.85, ry * 0.85), leaf, label)
    angle, area, size, share = scene.rng.uniform(0, 1, (4, 34))
    reach = np.sqrt(area)  # as many blobs a square pixel in the middle as at the rim
    x = centre[0] + rx * reach * np.cos(2 * np.pi * angle)
    y = centre[1] + ry * reach * np.sin(2 * np.pi * angle)
    radius = (0.1 + 0.14 * size) * min(rx, ry)
    for i in range(34):
        blob = ellipse((x[i], y[i]), 1.2 * radius[i], radius[i], 10)
        scene.canvas.polygon(blob, blend(leaf, dark, share[i]), label)


def _draw_ground(scene: Scene) -> None:
    """Pavements with slabs, then the road with its marks between them."""
    canvas, rng = scene.canvas, scene.rng
    walk, road = scene.surface("sidewalk"), scene.surface("road")
    slab, mark = scene.textured(walk), scene.textured(road)
    if "sidewalk" in scene.ids:
        label = scene.ids["sidewalk"]
        canvas.polygon([scene.at(scene.walks[0], 1.2), scene.vanish, scene.at(scene.walks[1], 1.2)], walk, label)
        for nearness in np.geomspace(0.12, 1.0, 12):
            _, y = scene.at(0, float(nearness))
            left, right = (scene.at(x, float(nearness))[0] for x in scene.walks)
            canvas.line((left, y), (right, y), 0.3 + nearness * 1.2, slab)
        for x in (np.mean([scene.walks[0], scene.kerbs[0]]), np.mean([scene.walks[1], scene.kerbs[1]])):
            canvas.polygon([scene.vanish, scene.at(float(x) - 2, 1.1), scene.at(float(x) + 2, 1.1)], slab)
    borders = scene.kerbs if "sidewalk" in scene.ids else scene.walks
    canvas.polygon([scene.at(borders[0], 1.2), scene.vanish, scene.at(borders[1], 1.2)], road, scene.ids["road"])
    middle, width = float(np.mean(scene.kerbs)), rng.uniform(2, 4)
    for start in np.geomspace(0.1, 0.9, 7) * rng.uniform(0.9, 1.1):
        (ax, ay), (bx, by) = scene.at(middle, float(start)), scene.at(middle, float(start) * 1.22)
        a, b = width * float(start), width * float(start) * 1.22
        canvas.polygon([(ax - a, ay), (ax + a, ay), (bx + b, by), (bx - b, by)], mark)


def _draw_things(scene: Scene) -> None:
    """Cars on the road and people on the pavements, the farthest first."""
    rng = scene.rng
    things = []
    if "car" in scene.ids:
        lanes = rng.permutation([0.25, 0.75, 0.25, 0.75])[: rng.integers(1, 4)]
        things += [(float(rng.uniform(0.3, 0.75)), "car", float(lane)) for lane in lanes]
    if "person" in scene.ids:
        things += [(float(rng.uniform(0.3, 0.75)), "person", float(rng.uniform(0.12, 0.5)))
                   for _ in range(rng.integers(1, 4))]  # fmt: skip
    for nearness, kind, place in sorted(things):
        if kind == "car":
            _draw_car(scene, nearness, place)
        else:
            _draw_person(scene, nearness, place)


def _draw_car(scene: Scene, nearness: float, lane: float) -> None:
    """A car from behind, standing in its lane (0 the left kerb, 1 the right one)."""
    canvas, label = scene.canvas, scene.ids["car"]
    width = scene.kerbs[1] - scene.kerbs[0]
    x, y = scene.at(scene.kerbs[0] + lane * width, nearness)
    w = 0.2 * width * nearness
    h = w * scene.rng.uniform(1.35, 1.7)
    body = scene.surface("car")
    glass, lamps, tyres = (scene.palette.colour(*luma) for luma in ((0.05, 0.15), (0.85, 1.0), (0.04, 0.12)))

    def at(*points: Point) -> list[Point]:
        """From units of half the width and of the height, the middle of the tyres' line being (0, 0)."""
        return [(x + px * w, y - py * h) for px, py in points]

    def box(left: float, low: float, right: float, high: float) -> list[Point]:
        return at((left, low), (right, low), (right, high), (left, high))

    canvas.shade(ellipse((x, y), w * 1.15, w * 0.16), 0.5, 0.8)
    for left in (-0.89, 0.55):
        canvas.polygon(box(left, 0, left + 0.34, 0.25), tyres, label)
    canvas.polygon(rounded(at((-0.68, 1), (0.68, 1), (0.92, 0.55), (-0.92, 0.55)), w * 0.25), body, label)
    canvas.polygon(rounded(box(-1, 0.1, 1, 0.62), w * 0.22), body, label)
    canvas.polygon(at((-0.56, 0.92), (0.56, 0.92), (0.74, 0.62), (-0.74, 0.62)), glass)
    for left in (-0.9, 0.62):
        canvas.polygon(box(left, 0.36, left + 0.28, 0.5), lamps)
    canvas.polygon(box(-0.25, 0.22, 0.25, 0.34), lamps)


def _draw_person(scene: Scene, nearness: float, place: float) -> None:
    """Someone on a pavement, `place` of its width away from the kerb."""
    canvas, rng, label = scene.canvas, scene.rng, scene.ids["person"]
    side = int(rng.integers(2))
    x, y = scene.at(scene.kerbs[side] + place * (scene.walks[side] - scene.kerbs[side]), nearness)
    h = nearness * HEIGHT * rng.uniform(0.5, 0.62)
    coat, legs, skin = (scene.surface("person") for _ in range(3))
    canvas.shade(ellipse((x, y), h * 0.18, h * 0.035), 0.5, 0.8)
    for step in (-h, h):
        canvas.line((x + step * 0.05, y - h * 0.5), (x + step * 0.09, y), h * 0.11, legs, label)
    torso = [(x - h * 0.15, y - h * 0.82), (x + h * 0.15, y - h * 0.82), (x + h * 0.17, y - h * 0.4),
             (x - h * 0.17, y - h * 0.4)]  # fmt: skip
    canvas.polygon(rounded(torso, h * 0.08), coat, label)
    canvas.disc((x, y - h * 0.9), h * 0.095, skin, label)


def _draw_bonnet(scene: Scene) -> None:
    """The own car's bonnet at the lower edge: nobody is asked what it is."""
    height = scene.rng.uniform(0.04, 0.1) * HEIGHT
    outline = ellipse((WIDTH / 2, HEIGHT + height * 0.6), WIDTH * scene.rng.uniform(0.4, 0.6), height * 1.6)
    scene.canvas.polygon(outline, scene.palette.colour(), IGNORE)
