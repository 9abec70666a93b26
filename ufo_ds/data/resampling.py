"""From a picture, decoded whole or at a reduced size, to a part of it at another size.

A picture reduced by k (see `EncodedImage.decode`) has pixels that are means of k x k of the original. What is left of
the shrinking is done with a bicubic filter, and not with the bilinear one of whole pictures: that would blur what the
mean has blurred already. Against Lanczos on the undecoded original the result is then about as near as that from the
whole picture, mostly nearer: docs/design.md, Decisions.
"""

from __future__ import annotations

import numpy as np
from torch import Tensor, nn
from torchvision.transforms.v2 import functional

from ufo_ds.data.pixels import to_tensor

Pair = tuple[int, int]
_EXCESS = 1 + 1e-12
"""Far below a pixel; keeps length * (size / length) from falling short of the size by rounding."""


def largest_scale(extent: Pair, size: Pair) -> float:
    """The factor of the axis that loses less when (height, width) are stretched to another (height, width)."""
    return max(size[0] / extent[0], size[1] / extent[1])


def scaled(size: Pair, scale: float) -> Pair:
    """(height, width) times a factor, in whole pixels; itself for 1."""
    height, width = (max(1, round(side * scale)) for side in size)
    return height, width


def cut(image: np.ndarray, start: Pair, extent: Pair, reduction: int = 1) -> np.ndarray:
    """A window of a picture, a view.

    Args:
        image: [h, w, ...], reduced by `reduction`.
        start: (top, left), pixels of the original, multiples of `reduction`.
        extent: (height, width), pixels of the original; a pixel that covers a part of it is in.
        reduction: original pixels a pixel, along an axis.
    """
    rows, columns = (
        slice(first // reduction, -(-(first + length) // reduction))
        for first, length in zip(start, extent, strict=True)
    )
    return image[rows, columns]


def rescale(window: np.ndarray, scale: float | tuple[float, float], reduction: int = 1) -> Tensor:
    """Scale a window, antialiased.

    Args:
        window: RGB uint8 [h, w, 3], reduced by `reduction`.
        scale: output pixels an original pixel; one number, or one for each axis.
        reduction: original pixels a pixel, along an axis.

    Returns:
        uint8 [3, floor(h * reduction * scale), floor(w * reduction * scale)].
    """
    left = [own * reduction for own in (scale if isinstance(scale, tuple) else (scale, scale))]
    image = to_tensor(window)
    if all(abs(factor - 1) <= 1e-9 for factor in left):
        return image
    mode = "bilinear" if reduction == 1 else "bicubic"
    return nn.functional.interpolate(image[None], scale_factor=left, mode=mode, antialias=True)[0]


def stretch(window: np.ndarray, extent: Pair, size: Pair, reduction: int = 1) -> Tensor:
    """Resize a window to exactly `size`, its aspect not kept.

    Args:
        window: RGB uint8 [h, w, 3], reduced by `reduction`.
        extent: (height, width) of what it is to show, pixels of the original.
        size: (H, W) of the result, pixels.
        reduction: original pixels a pixel, along an axis.

    Returns:
        uint8 [3, H, W], contiguous.
    """
    if reduction == 1:
        return functional.resize(to_tensor(window), size, antialias=True).contiguous()
    scale = size[0] / extent[0] * _EXCESS, size[1] / extent[1] * _EXCESS
    return rescale(window, scale, reduction)[:, : size[0], : size[1]].contiguous()
