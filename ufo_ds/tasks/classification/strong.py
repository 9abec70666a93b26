"""Strong augmentation of classification pictures: a policy of changes, then a rectangle of noise."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torchvision.transforms import v2

from ufo_ds.data.pixels import GREY
from ufo_ds.recipe import ClsConfig

Change = Callable[[Tensor], Tensor]
"""uint8 [3, H, W] -> the same size and type, random through torch's global generator alone."""


def make_strong(config: ClsConfig) -> list[Change]:
    """What the recipe asks for, in the order in which it is applied; empty, and no draw, for the defaults."""
    policy = [make_policy(config.auto_augment, config.auto_augment_magnitude)] if config.auto_augment else []
    return policy + ([RandomErasing(config.random_erasing)] if config.random_erasing > 0 else [])


def make_policy(name: str, magnitude: int) -> Change:
    """A policy of torchvision's (its papers stand at `tasks.cls.auto_augment`), with grey where pictures are moved.

    Args:
        name: as in a recipe.
        magnitude: 0..30; a third of it is AugMix's severity.
    """
    options = {"interpolation": v2.InterpolationMode.BILINEAR, "fill": [GREY] * 3}
    if name == "randaugment":
        return v2.RandAugment(magnitude=magnitude, **options)
    if name == "augmix":
        return v2.AugMix(severity=max(1, magnitude // 3), **options)
    return {"autoaugment": v2.AutoAugment, "trivialaugment": v2.TrivialAugmentWide}[name](**options)


class RandomErasing(v2.RandomErasing):
    """A rectangle of random pixels (arXiv 1708.04896, its variant RE-R).

    torchvision chooses the rectangle; its own noise is made for normalised floats and would wrap around in uint8.
    """

    def __init__(self, probability: float) -> None:
        super().__init__(p=probability, value=0)

    def transform(self, image: Tensor, params: dict) -> Tensor:
        """A copy with noise in the rectangle that was drawn."""
        top, left, height, width = (params[key] for key in "ijhw")
        if params["v"] is None:  # no rectangle that fits was found
            return image
        noise = torch.randint(256, (3, height, width), dtype=torch.uint8)
        return v2.functional.erase(image, top, left, height, width, noise)
