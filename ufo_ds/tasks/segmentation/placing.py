"""Where a training crop lies in its picture, as far as the labels have a say."""

from __future__ import annotations

import numpy as np
import torch

from ufo_ds.data.pixels import uniform
from ufo_ds.data.placement import Placement
from ufo_ds.data.resampling import Pair
from ufo_ds.data.schema import IGNORE_ID
from ufo_ds.recipe import SegConfig

TRIES = 10
"""Draws for a crop that no class fills."""
TEMPERATURE = 0.01
"""Of the softmax over classes: DAFormer's. Classes of 1 % of a picture and less are then nearly alike."""
_STRIDE = 4  # every fourth pixel both ways is enough for a share


def place_crop(mask: np.ndarray, crop: Pair, scale: float, config: SegConfig) -> Placement:
    """A random place for a picture on its crop. Draws from torch's global generator.

    Args:
        mask: uint8 [H, W], class ids and 255.
        crop: (height, width), pixels.
        scale: crop pixels an original pixel.
        config: `rare_crops` and `cat_max_ratio` count.

    Raises:
        DecodeError: less than a pixel would be left of one side.
    """
    rare = config.rare_crops > 0 and uniform(0, 1) < config.rare_crops
    pixel = rare_pixel(mask) if rare else None

    def draw() -> Placement:
        if pixel is None:
            return Placement.at_random(mask.shape, crop, scale)
        return Placement.around(mask.shape, crop, scale, pixel)

    place = draw()
    for _ in range(TRIES - 1):
        if config.cat_max_ratio >= 1 or place.extent == mask.shape:
            break
        if largest_share(place.window(mask)) <= config.cat_max_ratio:
            break
        place = draw()
    return place


def rare_pixel(mask: np.ndarray) -> Pair | None:
    """(row, column) of a random pixel of a class that is rare in the mask; None where nothing is labelled.

    DAFormer (arXiv 2111.14887) draws class c with probability softmax((1 - f_c) / T), f_c its share of all labelled
    pixels of the data set, and then a picture that has it. Here f_c is the share in this picture: no reader has to see
    another mask than its own, so that it works from the first batch on shards of any size and place.
    """
    counts = _counts(mask)
    present = counts.nonzero()[0]
    if len(present) == 0:
        return None
    share = torch.from_numpy(counts[present] / counts.sum())
    drawn = uniform(0, 1) < torch.softmax((1 - share) / TEMPERATURE, 0).cumsum(0)
    chosen = present[int(drawn.int().argmax()) if bool(drawn.any()) else -1]
    places = np.flatnonzero(mask == chosen)
    row, column = divmod(int(places[int(torch.randint(len(places), ()))]), mask.shape[1])
    return row, column


def largest_share(mask: np.ndarray) -> float:
    """The share of the labelled pixels that the commonest class covers; 1 where nothing is labelled."""
    counts = _counts(mask[::_STRIDE, ::_STRIDE])
    return float(counts.max() / max(1, counts.sum())) if counts.any() else 1.0


def _counts(mask: np.ndarray) -> np.ndarray:
    """Pixels of each class id, int64 [255]."""
    return np.bincount(mask.ravel(), minlength=256)[:IGNORE_ID]
