"""Traffic-sign detection."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal


@dataclass
class DetConfig:
    """Traffic-sign detection."""

    batch: int = 2
    """Images a micro-batch on each rank; a step takes `train.accumulate` of them."""
    weight: float = 0.2
    """Factor on the loss. A set-prediction loss starts near 18 where the others start below 3."""
    size: tuple[int, int] = (1280, 1280)
    """(height, width) of the canvas that an image is fitted into, in pixels."""
    scale_jitter: tuple[float, float] = (0.6, 1.6)
    """Factor on the fitted size in training (smallest, largest). `[0.1, 2.0]` is large-scale jitter (arXiv
    2012.07177)."""
    crop_to_box: float = 0.0
    """Probability that what is shown of a picture larger than the canvas is chosen to hold one of its boxes, any with
    equal chance. 0: chosen blindly, and then mostly without any where objects are small and few."""
    mosaic: float = 0.0
    """Probability that a training image is put together from four (arXiv 2004.10934), each at a scale of its own."""
    copy_paste: float = 0.0
    """Probability that objects of other training images are pasted in (arXiv 2012.07177, by boxes), rarer classes more
    often. Draws from all shards at any time."""
    copy_paste_max: int = 3
    """`copy_paste`: objects at most that an image gets."""
    hflip: float = 0.0
    """Probability of mirroring. 0: a mirrored sign may be another sign."""
    color_jitter: float = 0.3
    """Strength of brightness, contrast and saturation jitter, 0..1."""
    min_visible: float = 0.3
    """A box cut by a crop stays a target if at least this share of its area is left."""
    min_box: float = 1.0
    """Boxes narrower or lower than this on the canvas, in pixels, are no targets."""
    decoder: Literal["d_fine", "rt_detr_v2"] = "d_fine"
    """Which transformers decoder, with its matching and losses."""
    decoder_kwargs: dict[str, Any] = field(default_factory=dict)
    """Further fields of that decoder's transformers config, e.g. `{decoder_layers: 3, num_queries: 100}`."""
    decoder_weights: str | None = None
    """A local safetensors file of a published checkpoint of that decoder; what fits in name and shape is taken."""
    loss: Literal["default", "equalised_focal"] = "default"
    """Of the classes: `default` is the decoder's own (varifocal, arXiv 2008.13367); `equalised_focal` focuses that of
    each class the more, the less its positives weigh against its negatives (arXiv 2201.02593)."""
    norm: Literal["group", "frozen"] = "group"
    """What replaces the BatchNorm of the decoder's neck: `group` (GroupNorm) to train from scratch, `frozen` to keep
    the statistics of `decoder_weights`. BatchNorm itself is noise at a few images a rank, and differs by rank."""
    levels: tuple[int, ...] = (8, 16, 32)
    """Strides of the pyramid that the decoder sees, each twice the one before."""
    width: int = 256
    """Channels of the pyramid and of the decoder."""
    nms: float | None = 0.7
    """Of two predicted boxes of one class with a larger IoU than this, only the likelier counts; null: both do. A
    set-prediction head needs it the less, the longer it has been trained."""
