"""Drawing on pictures: captions, boxes, masks. Pictures are RGB uint8 [H, W, 3]; nothing here knows a task.

Functions return a new picture unless they say otherwise. Colours are (R, G, B), 0..255.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache

import cv2
import numpy as np

from ufo_ds.lettering import Colour, shorten, text_width, write

Box = tuple[int, int, int, int]
"""x1, y1, x2, y2 in pixels."""

SMALL_SIDE = 384
"""A picture whose longer side is below this is enlarged by a whole factor: captions want room."""
LARGE_SIDE = 720
"""A picture whose longer side is above this is shrunk to it."""
SLATE: Colour = (30, 35, 46)
"""Ground of captions and gaps; sits well on a light and on a dark page."""
WHITE: Colour = (255, 255, 255)
RIGHT: Colour = (64, 196, 120)
"""The mark of a right prediction."""
WRONG: Colour = (244, 96, 84)
"""The mark of a wrong prediction."""
IGNORED = 255
"""Mask value of the pixels that do not count."""

_ROAD_SCENE = (
    (128, 64, 128), (244, 35, 232), (70, 70, 70), (102, 102, 156), (190, 153, 153), (153, 153, 153),
    (250, 170, 30), (220, 220, 0), (107, 142, 35), (152, 251, 152), (70, 130, 180), (220, 20, 60),
    (255, 0, 0), (0, 0, 142), (0, 0, 70), (0, 60, 100), (0, 80, 100), (0, 0, 230), (119, 11, 32),
)
_BOXES = ((255, 196, 0), (0, 190, 255), (255, 92, 138), (88, 226, 120), (190, 140, 255), (255, 128, 40))


# ---- colours ----


@lru_cache(maxsize=8)
def mask_colours(classes: int) -> np.ndarray:
    """Colours of mask ids 0..classes-1, uint8 [K, 3]: the 19 of Cityscapes and BDD100K, then further ones."""
    return _extend(_ROAD_SCENE, classes, np.arange(16, 256, 34))


@lru_cache(maxsize=8)
def box_colours(classes: int) -> np.ndarray:
    """Colours of box class indices 0..classes-1, uint8 [K, 3]: bright, for outlines on photographs."""
    return _extend(_BOXES, classes, np.arange(60, 256, 24), least_lightness=150)


def _extend(start: Sequence[Colour], count: int, levels: np.ndarray, least_lightness: int = 0) -> np.ndarray:
    """Go on from `start`, each time with the colour that is farthest (in Lab) from all before it."""
    chosen = list(start)
    candidates = np.stack(np.meshgrid(levels, levels, levels), axis=-1).reshape(-1, 3).astype(np.uint8)
    lab = _to_lab(candidates)
    candidates, lab = candidates[lab[:, 0] >= least_lightness], lab[lab[:, 0] >= least_lightness]
    distance = np.linalg.norm(lab[:, None] - _to_lab(np.uint8(chosen))[None], axis=-1).min(axis=1)
    while len(chosen) < min(count, len(start) + len(candidates)):
        farthest = int(distance.argmax())
        chosen.append(tuple(candidates[farthest].tolist()))
        distance = np.minimum(distance, np.linalg.norm(lab - lab[farthest], axis=1))
    table = np.resize(np.array(chosen, np.uint8), (max(count, 1), 3))[:count]
    table.setflags(write=False)  # it is cached and handed to everyone
    return table


def _to_lab(colours: np.ndarray) -> np.ndarray:
    return cv2.cvtColor(colours[None], cv2.COLOR_RGB2LAB)[0].astype(np.float32)


def _ink(ground: Colour) -> Colour:
    """Black or white, whichever reads better on `ground`."""
    return SLATE if np.dot(ground, (0.299, 0.587, 0.114)) > 140 else WHITE


# ---- size ----


def fit(image: np.ndarray) -> tuple[np.ndarray, float]:
    """Enlarge a tiny picture by a whole factor, shrink a large one.

    Returns:
        The picture, and the factor that takes pixel coordinates of the given picture to it.
    """
    longer = max(image.shape[:2])
    factor = math.ceil(SMALL_SIDE / longer) if longer < SMALL_SIDE else min(1.0, LARGE_SIDE / longer)
    if factor == 1:
        return image.copy(), 1.0
    size = [max(1, round(side * factor)) for side in image.shape[1::-1]]
    return cv2.resize(image, size, interpolation=cv2.INTER_CUBIC if factor > 1 else cv2.INTER_AREA), factor


def fit_mask(mask: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """A mask uint8 [h, w] at the size (H, W, ...) of a picture; ids are never mixed."""
    return cv2.resize(mask, shape[1::-1], interpolation=cv2.INTER_NEAREST_EXACT)


# ---- text ----


def text_size(width: int) -> int:
    """Height of letters for a picture of `width` pixels, legible also where it is shown smaller."""
    return max(13, min(width // 27, 24))


def label(image: np.ndarray, text: str, xy: tuple[int, int], colour: Colour) -> Box:
    """Write small text on a ground of `colour`, in place, moved inside the picture where it would stick out.

    Args:
        image: drawn on.
        text: one line.
        xy: upper left corner of the ground, pixels.
        colour: of the ground; the letters are black or white.

    Returns:
        The ground as x1, y1, x2, y2.
    """
    size = text_size(image.shape[1])
    x1, y1, x2, y2 = _label_box(image.shape, text, xy)
    cv2.rectangle(image, (x1, y1), (x2 - 1, y2 - 1), colour, -1)
    write(image, text, (x1 + size // 3, y2 - (size * 2) // 5), _ink(colour), size)
    return x1, y1, x2, y2


def _label_box(shape: tuple[int, ...], text: str, xy: tuple[int, int]) -> Box:
    width, height = _label_size(shape, text)
    x1 = max(0, min(xy[0], shape[1] - width))
    y1 = max(0, min(xy[1], shape[0] - height))
    return x1, y1, x1 + width, y1 + height


def _label_size(shape: tuple[int, ...], text: str) -> tuple[int, int]:
    size = text_size(shape[1])
    return text_width(text, size) + 2 * (size // 3), size + size // 3


# ---- captions ----


def strip_height(size: int) -> int:
    """Of a caption in letters of `size`, pixels."""
    return size * 9 // 5


def strip(width: int, text: str, mark: bool | None = None, indent: bool = False,
          size: int | None = None) -> np.ndarray:
    """A caption of `width` pixels.

    Args:
        width: pixels.
        text: cut to what fits.
        mark: a tick (True) or a cross (False) before the text, or None.
        indent: begin where a marked text begins.
        size: of the letters; default: that of a picture of this width.

    Returns:
        uint8 [strip_height(size), width, 3].
    """
    size = size or text_size(width)
    height = strip_height(size)
    image = np.full((height, width, 3), SLATE, np.uint8)
    left = 2 * size if indent or mark is not None else (2 * size) // 3
    if mark is not None:
        # Shape and colour both tell, for those who do not see the colours apart.
        shapes = [[(0, 0.5), (0.35, 0.85), (1, 0.1)]] if mark else [[(0, 0), (1, 1)], [(1, 0), (0, 1)]]
        corner, side = np.array([0.62 * size, (height - 0.62 * size) / 2]), 0.62 * size
        lines = [(corner + np.array(shape) * side).round().astype(np.int32) for shape in shapes]
        cv2.polylines(image, lines, False, RIGHT if mark else WRONG, 2, cv2.LINE_AA)
    write(image, shorten(text, width - left - 6, size), (left, (height + size) // 2 - size // 6), WHITE, size)
    return image


def beside(left: np.ndarray, right: np.ndarray, titles: tuple[str, str]) -> np.ndarray:
    """Two pictures side by side, each under its title; the lower one is filled up below."""
    height, size = max(left.shape[0], right.shape[0]), text_size(left.shape[1])
    panels = [titled(image, title, height, size) for image, title in zip((left, right), titles, strict=True)]
    gap = np.full((panels[0].shape[0], 4, 3), SLATE, np.uint8)
    return np.hstack([panels[0], gap, panels[1]])


def titled(image: np.ndarray, title: str, height: int = 0, size: int | None = None) -> np.ndarray:
    """A picture under its title, filled up below to `height` pixels; `size` as for `strip`."""
    below = np.full((max(0, height - image.shape[0]), image.shape[1], 3), SLATE, np.uint8)
    return np.vstack([strip(image.shape[1], title, size=size), image, below])


# ---- boxes ----


def boxes(image: np.ndarray, xyxy: np.ndarray, names: Sequence[str], scores: Sequence[float] | None = None,
          colours: Sequence[Sequence[int]] | None = None) -> np.ndarray:
    """Draw boxes with their names, so that names do not cover one another where there is room.

    Args:
        image: the picture.
        xyxy: float [N, 4], pixels of `image`.
        names: N texts; an empty one draws the box alone.
        scores: N scores 0..1 to stand behind the names.
        colours: N colours; default: one for all.
    """
    drawn = image.copy()
    corners = np.clip(np.nan_to_num(np.asarray(xyxy, float).reshape(-1, 4)), -1e4, 1e4).round().astype(int)
    outlines = [tuple(box) for box in corners.tolist()]
    tints = [tuple(map(int, tint)) for tint in ([_BOXES[0]] * len(outlines) if colours is None else colours)]
    for thickness, dark in ((4, True), (2, False)):  # a dark rim first, which shows on light ground
        for (x1, y1, x2, y2), tint in zip(outlines, tints, strict=True):
            cv2.rectangle(drawn, (x1, y1), (x2, y2), SLATE if dark else tint, thickness)
    placed: list[Box] = []
    for i, box in enumerate(outlines):
        if text := names[i] if scores is None else f"{names[i]} {scores[i]:.2f}".strip():
            spot = _place(drawn.shape, text, box, placed, outlines)
            placed.append(label(drawn, text, spot, tints[i]))
    return drawn


def _place(shape: tuple[int, ...], text: str, box: Box, placed: list[Box],
           outlines: list[Box]) -> tuple[int, int]:
    """Upper left corner for a name: above, below, left or right of its box, the first that hides least."""
    x1, y1, x2, y2 = box
    width, height = _label_size(shape, text)
    spots = [(x1 - 1, y1 - height - 1), (x1 - 1, y2 + 3), (x1 - width - 2, y1), (x2 + 4, y1)]

    def hidden(spot: tuple[int, int]) -> int:
        ground = _label_box(shape, text, spot)
        # A name on a name cannot be read; one on an outline, or moved from its box, is merely unlovely.
        return (10 * sum(_overlap(ground, other) for other in placed)
                + sum(_overlap(ground, other) for other in outlines) + (ground[:2] != spot))

    return min(spots, key=hidden)


def _overlap(a: Box, b: Box) -> bool:
    return a[0] < b[2] and b[0] < a[2] and a[1] < b[3] and b[1] < a[3]


# ---- masks ----


def overlay_mask(image: np.ndarray, mask: np.ndarray, colours: np.ndarray, alpha: float = 0.6) -> np.ndarray:
    """Lay a mask over a picture, classes in their colours, ignored pixels hatched in grey.

    Args:
        image: the picture.
        mask: uint8 [H, W] of class ids, of the picture's size; 255 is ignored, other ids beyond K stay bare.
        colours: uint8 [K, 3] by class id.
        alpha: share of the colour, 0..1.
    """
    table = np.zeros((256, 3), np.uint8)
    table[: len(colours)] = colours[:256]
    classes = mask < min(len(colours), IGNORED)
    blended = cv2.addWeighted(image, 1 - alpha, table[mask], alpha, 0)
    drawn = np.where(classes[..., None], blended, image)
    rows, columns = np.indices(mask.shape, sparse=True)
    hatch = np.where((rows + columns) // 4 % 2, 90, 150).astype(np.uint8)[..., None]
    drawn = np.where((mask == IGNORED)[..., None], image // 4 + hatch // 4 * 3, drawn)
    edges = _edges(mask)
    drawn[edges] = drawn[edges] // 2 + 112  # half white: a pole of two pixels keeps something of its colour
    return drawn


def _edges(mask: np.ndarray) -> np.ndarray:
    """Bool [H, W]: pixels whose right or lower neighbour is of another class."""
    edges = np.zeros(mask.shape, bool)
    edges[:, :-1] |= mask[:, :-1] != mask[:, 1:]
    edges[:-1] |= mask[:-1] != mask[1:]
    return edges
