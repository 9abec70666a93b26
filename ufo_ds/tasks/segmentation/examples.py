"""Segmentation: raw sample -> example -> batch."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import cv2
import numpy as np
import torch
from torch import Tensor, nn

from ufo_ds.data.batch import Batch, Example
from ufo_ds.data.decode import DecodeError, EncodedImage, decode_mask
from ufo_ds.data.pixels import GREY, jitter_colour, uniform
from ufo_ds.data.resampling import largest_scale, scaled, stretch
from ufo_ds.data.schema import IGNORE_ID, RawSample, TaskMeta
from ufo_ds.errors import UserError
from ufo_ds.recipe import SegConfig
from ufo_ds.tasks.segmentation.placing import place_crop


class TrainTransform:
    """The image at a random scale: a crop (see `placing`) where larger, at a random place on grey where smaller.

    Mirrored at random, in jittered colours. The target is the mask, uint8 [H, W] of class ids, 255 where
    there is no label or no image.
    """

    def __init__(self, config: SegConfig, meta: TaskMeta) -> None:
        self.config, self.meta = config, meta
        self.jitter = config.color_jitter, config.hue_jitter, config.jitter_prob
        self._is_foreign = np.isin(np.arange(256), [*meta.class_ids, IGNORE_ID], invert=True).astype(np.uint8)

    def __call__(self, raw: RawSample) -> Example:
        """`UserError` where the sample has no mask; `DecodeError` for broken bytes."""
        if (label := raw.mask) is None:
            raise UserError("no mask (.png member); build the shards from labelled data")
        image, mask = EncodedImage(raw.image), decode_mask(label)
        size, crop = image.size, tuple(self.config.crop)
        if mask.shape != size:
            raise DecodeError(f"the mask has (height, width) {mask.shape}, the image {size}")
        if (is_foreign := cv2.LUT(mask, self._is_foreign)).any():
            foreign = mask[is_foreign > 0].min()
            raise UserError(f"mask id {foreign} is neither one of the {self.meta.num_classes} classes nor {IGNORE_ID}; "
                            "run shards/build.py again")
        place = place_crop(mask, crop, uniform(*self.config.scale_jitter), self.config)
        decoded, reduction = image.decode(place.scale)
        place = place.reduced(reduction)
        pixels = place.paste(jitter_colour(place.window(decoded), *self.jitter))
        target = place.paste_mask(mask, IGNORE_ID)
        if uniform(0, 1) < self.config.hflip:
            pixels, target = pixels.flip(-1), target.flip(-1)
        return Example(pixels, target, _source(raw, size, crop))


class EvalTransform:
    """The whole image at its own size, or resized to `eval_size`; times `scale`. No target: the metric takes the mask
    itself.
    """

    def __init__(self, config: SegConfig, meta: TaskMeta, scale: float = 1.0) -> None:
        self.size, self.scale = tuple(config.eval_size) if config.eval_size else None, scale

    def __call__(self, raw: RawSample) -> Example:
        """`DecodeError` for broken bytes."""
        image = EncodedImage(raw.image)
        size = scaled(self.size or image.size, self.scale)
        decoded, reduction = image.decode(largest_scale(image.size, size))
        return Example(stretch(decoded, image.size, size, reduction), None, _source(raw, image.size, size))


def collate(examples: Sequence[Example]) -> Batch:
    """Images uint8 [B, 3, H, W]; targets uint8 [B, H, W] of class ids and 255, or None in evaluation.

    Images of different sizes get grey borders right and below; `source["input_size"]` (h, w) is each one's
    own.
    """
    height, width = (max(example.image.shape[axis] for example in examples) for axis in (1, 2))
    images = torch.stack([_padded(example.image, height, width) for example in examples])
    targets = [example.target for example in examples]
    stacked = None if any(target is None for target in targets) else torch.stack(targets)
    return Batch("seg", images, stacked, [example.source for example in examples])


def _padded(image: Tensor, height: int, width: int) -> Tensor:
    missing = (0, width - image.shape[2], 0, height - image.shape[1])
    return nn.functional.pad(image, missing, value=GREY) if any(missing) else image


def _source(raw: RawSample, size: tuple[int, int], input_size: tuple[int, int]) -> dict[str, Any]:
    return {"file_name": raw.file_name, "size": size, "input_size": input_size}
