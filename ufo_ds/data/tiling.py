"""Where overlapping windows lie along a side, and how much each counts there."""

from __future__ import annotations

import math

import numpy as np


def window_starts(length: int, window: int, overlap: float) -> list[int]:
    """First pixels of evenly spaced windows that cover a side from end to end.

    Args:
        length: of the side, pixels.
        window: length of a window, pixels; where it is no shorter than the side, there is one.
        overlap: share of a window that the next one covers again, at least (to a pixel), 0..1.
    """
    if window >= length:
        return [0]
    stride = max(1, math.floor(window * (1 - overlap)))
    count = 1 + math.ceil((length - window) / stride)
    return [round(number * (length - window) / (count - 1)) for number in range(count)]


def blend_weights(starts: list[int], window: int, length: int) -> np.ndarray:
    """How much each window counts at each of its pixels: smooth, and 1 in sum over the windows at every pixel.

    A window counts by the square of a sine across it, divided by the sum over all windows. Where only one window is,
    at the ends of the side above all, that is 1; where two meet, one fades out as the other fades in.

    Args:
        starts: first pixels of the windows.
        window: length of a window, pixels.
        length: of the side, pixels.

    Returns:
        float64 [number of windows, window].
    """
    bump = np.sin(np.pi * (np.arange(window) + 0.5) / window) ** 2
    total = np.zeros(length)
    for start in starts:
        total[start : start + window] += bump
    return np.stack([bump / total[start : start + window] for start in starts])
