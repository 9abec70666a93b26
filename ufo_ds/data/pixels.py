"""Photometric augmentation, and a picture's way from an array to a tensor."""

from __future__ import annotations

import cv2
import numpy as np
import torch
from torch import Tensor

GREY = 114
"""What fills the canvas around a picture: near the mean of natural images."""
HUE_TURN = 0.05
"""Largest turn of the hue at strength 1, in parts of the colour circle: signs must keep their colours."""
_LUMA = np.array([0.299, 0.587, 0.114])  # ITU-R BT.601, as in torchvision's adjustments
_TO_YIQ = np.array([_LUMA, [0.595716, -0.274453, -0.321263], [0.211456, -0.522591, 0.311135]])
_FROM_YIQ = np.linalg.inv(_TO_YIQ)


def uniform(low: float, high: float) -> float:
    """A random number from `low` to `high`, from torch's global generator."""
    return low + (high - low) * torch.rand((), dtype=torch.float64).item()


def to_tensor(image: np.ndarray) -> Tensor:
    """uint8 [H, W, 3] -> a view of the same memory, uint8 [3, H, W]."""
    return torch.from_numpy(image).permute(2, 0, 1)


Factors = tuple[float, float, float, float]
"""Brightness, contrast, saturation, turn of the hue; see `colour_matrix`."""


def jitter_colour(
    image: np.ndarray, strength: float, hue: float | None = None, probability: float = 1.0
) -> np.ndarray:
    """Change brightness, contrast and saturation by a factor in 1 +- strength each, and turn the hue.

    Strength 0.5, hue 0.1 and probability 0.5 are the ranges of the photometric distortion of SSD (arXiv 1512.02325),
    which is customary in segmentation. Its random order of contrast and the rest is no choice here: a factor on all
    of a pixel commutes with the other changes.

    Args:
        image: RGB uint8 [H, W, 3].
        strength: 0 to 1. Draws from torch's global generator.
        hue: its largest turn, in parts of the circle; None: `HUE_TURN` times the strength.
        probability: of each of the four changes by itself.

    Returns:
        RGB uint8 [H, W, 3]; the image itself where strength and hue, or the probability, are 0.
    """
    return recolour(image, draw_jitter(strength, hue, probability))


def draw_jitter(strength: float, hue: float | None = None, probability: float = 1.0) -> Factors | None:
    """What `jitter_colour` draws; None, and nothing drawn, where there is nothing to change."""
    if probability <= 0 or (strength <= 0 and not hue):
        return None
    brightness, contrast, saturation = (uniform(1 - strength, 1 + strength) for _ in range(3))
    turn = uniform(-strength, strength) * HUE_TURN if hue is None else uniform(-hue, hue)
    drawn = brightness, contrast, saturation, turn
    if probability >= 1:
        return drawn
    kept = [uniform(0, 1) < probability for _ in drawn]
    brightness, contrast, saturation, turn = (
        value if keep else neutral for value, neutral, keep in zip(drawn, (1.0, 1.0, 1.0, 0.0), kept, strict=True)
    )
    return brightness, contrast, saturation, turn


def recolour(image: np.ndarray, factors: Factors | None) -> np.ndarray:
    """An image in the colours that were drawn; the image itself for None.

    All four changes are linear in the pixel, so that they are one 3 x 4 matrix and one pass over the image: 0.1 ms
    for 448 x 448 pixels, where torchvision's adjustments one after the other take 13 ms.
    """
    return image if factors is None else cv2.transform(image, colour_matrix(image, *factors))


def colour_matrix(image: np.ndarray, brightness: float, contrast: float, saturation: float, turn: float) -> np.ndarray:
    """Hue, then saturation, brightness and contrast as one affine map of RGB.

    Args:
        image: RGB uint8 [H, W, 3]; contrast is about its mean luma.
        brightness: factor.
        contrast: factor.
        saturation: factor; 0 is grey.
        turn: of the hue about the grey axis at equal luma, in parts of the circle.

    Returns:
        float64 [3, 4].
    """
    cosine, sine = np.cos(2 * np.pi * turn), np.sin(2 * np.pi * turn)
    rotated = _FROM_YIQ @ np.array([[1, 0, 0], [0, cosine, -sine], [0, sine, cosine]]) @ _TO_YIQ
    saturated = (saturation * np.eye(3) + (1 - saturation) * _LUMA) @ rotated
    mean = _LUMA @ np.array(cv2.mean(image)[:3])  # hue and saturation leave luma as it is
    offset = np.full((3, 1), (1 - contrast) * brightness * mean)
    return np.hstack([contrast * brightness * saturated, offset])
