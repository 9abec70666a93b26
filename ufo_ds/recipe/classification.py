"""Fine-grained classification."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

AutoAugmentPolicy = Literal["randaugment", "autoaugment", "trivialaugment", "augmix"]


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
    hue_jitter: float | None = None
    """Largest turn of the hue, in parts of the colour circle, 0..0.5; null: a twentieth of `color_jitter`."""
    jitter_prob: float = 1.0
    """Probability of each of these four changes by itself."""
    auto_augment: AutoAugmentPolicy | None = None
    """A policy of strong changes: `randaugment` (arXiv 1909.13719, two changes a picture), `autoaugment` (1805.09501,
    ImageNet's policy), `trivialaugment` (2103.10158, its wide range) or `augmix` (1912.02781); null: none."""
    auto_augment_magnitude: int = 9
    """Strength of `randaugment`, 0..30, and of `augmix`, whose severity of 1..10 is a third of it. The other two have
    their own."""
    random_erasing: float = 0.0
    """Probability of a rectangle of noise over 2 to 33 % of the picture (arXiv 1708.04896)."""
    mixup: float = 0.0
    """Mixes each picture with another of its micro-batch, and their labels (arXiv 1710.09412); the share is drawn from
    Beta(mixup, mixup), e.g. 0.2. 0: off."""
    cutmix: float = 0.0
    """Pastes a rectangle of another picture of the micro-batch; its share of the area, that of the labels too, is about
    Beta(cutmix, cutmix) (arXiv 1905.04899), e.g. 1.0. 0: off."""
    mix_prob: float = 1.0
    """Probability that a micro-batch is mixed at all, where `mixup` or `cutmix` is on."""
    mix_switch_prob: float = 0.5
    """Where both are on: probability that a mixed micro-batch takes `cutmix`."""
    balanced: bool = True
    """Draw every class equally often."""
    label_smoothing: float = 0.1
    """Probability mass spread evenly over all classes."""
    dropout: float = 0.0
    """Dropout before the classifier."""
