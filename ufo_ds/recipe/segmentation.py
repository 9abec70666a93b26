"""Semantic segmentation."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass
class SegConfig:
    """Semantic segmentation."""

    batch: int = 2
    """Images a micro-batch on each rank; a step takes `train.accumulate` of them."""
    weight: float = 1.0
    """Factor on the loss."""
    crop: tuple[int, int] = (720, 1280)
    """(height, width) of a training crop in pixels."""
    scale_jitter: tuple[float, float] = (0.5, 2.0)
    """Factor on the image's size before cropping (smallest, largest)."""
    hflip: float = 0.5
    """Probability of mirroring a training image."""
    color_jitter: float = 0.3
    """Strength of brightness, contrast and saturation jitter, 0..1."""
    hue_jitter: float | None = None
    """Largest turn of the hue, in parts of the colour circle, 0..0.5; null: a twentieth of `color_jitter`."""
    jitter_prob: float = 1.0
    """Probability of each of these four changes by itself."""
    rare_crops: float = 0.0
    """Probability that a crop is placed around a pixel of a class that is rare in its picture (after the rare class
    sampling of DAFormer, arXiv 2111.14887)."""
    cat_max_ratio: float = 1.0
    """A crop of which one class covers a larger share than this is drawn anew, up to ten times, e.g. 0.75. 1: never."""
    eval_size: tuple[int, int] | None = None
    """(height, width) that whole frames are resized to for prediction; null: their own size."""
    width: int = 256
    """Channels of the fusion."""
    aux_weight: float = 0.4
    """Weight of the auxiliary loss on the middle depth."""
