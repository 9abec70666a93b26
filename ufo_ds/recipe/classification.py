"""Fine-grained classification."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass
class ClsConfig:
    """Fine-grained classification."""

    batch: int = 16
    """Images a micro-batch on each rank; a step takes `train.accumulate` of them."""
    weight: float = 1.0
    """Factor on the loss."""
    size: tuple[int, int] = (448, 448)
    """(height, width) of the network's input in pixels."""
    crop_scale: tuple[float, float] = (0.4, 1.0)
    """Share of the image's area that a training crop covers (smallest, largest)."""
    hflip: float = 0.5
    """Probability of mirroring a training image."""
    color_jitter: float = 0.3
    """Strength of brightness, contrast and saturation jitter, 0..1."""
    balanced: bool = True
    """Draw every class equally often."""
    label_smoothing: float = 0.1
    """Probability mass spread evenly over all classes."""
    dropout: float = 0.0
    """Dropout before the classifier."""
