"""Classification: raw sample -> example -> batch."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torchvision.transforms import v2

from ufo_ds.data.batch import Batch, Example
from ufo_ds.data.decode import DecodeError, EncodedImage, decode_label
from ufo_ds.data.pixels import draw_jitter, recolour
from ufo_ds.data.resampling import Pair, cut, largest_scale, stretch
from ufo_ds.data.schema import RawSample, TaskMeta
from ufo_ds.errors import UserError
from ufo_ds.recipe import ClsConfig
from ufo_ds.tasks.classification.strong import make_strong

RATIO = (3 / 4, 4 / 3)
"""Width to height of a training crop (narrowest, widest)."""


class TrainTransform:
    """A random part of the image at the network's size, mirrored at random, in jittered colours; then what is strong.

    The target is the network's class index (0..K-1), an int.
    """

    def __init__(self, config: ClsConfig, meta: TaskMeta) -> None:
        self.meta, self.jitter = meta, (config.color_jitter, config.hue_jitter, config.jitter_prob)
        size, scale = tuple(config.size), tuple(config.crop_scale)
        self.crop = v2.RandomResizedCrop(size, scale=scale, ratio=RATIO)
        self.flip = v2.RandomHorizontalFlip(config.hflip)
        self.size, self.strong = size, make_strong(config)

    def __call__(self, raw: RawSample) -> Example:
        """`UserError` without a label that is a class; `DecodeError` for broken bytes."""
        target = self.meta.index_of(read_label(raw))
        image = EncodedImage(raw.image)
        # All is drawn before the pixels are decoded, so that it is the same whatever size they come in.
        colours, (start, extent) = draw_jitter(*self.jitter), self._draw_crop(image.size)
        decoded, reduction = image.decode(largest_scale(extent, self.size))
        top, left = (first - first % reduction for first in start)
        window = cut(recolour(decoded, colours), (top, left), extent, reduction)
        pixels = self.flip(stretch(window, extent, self.size, reduction))
        for change in self.strong:
            pixels = change(pixels)
        return _example(raw, pixels, target, image.size)

    def _draw_crop(self, size: Pair) -> tuple[Pair, Pair]:
        """(top, left) and (height, width) of a random part of a picture of `size` (H, W)."""
        # Only the shape of what it is given counts: one element, spread over it.
        crop = self.crop.make_params([torch.empty(1).expand(3, *size)])
        return (crop["top"], crop["left"]), (crop["height"], crop["width"])


class EvalTransform:
    """The whole image, resized to the network's size without keeping its aspect.

    The objects fill their pictures: a centre crop would cut them off, and borders would waste resolution.
    """

    def __init__(self, config: ClsConfig, meta: TaskMeta) -> None:
        self.meta, self.size = meta, tuple(config.size)

    def __call__(self, raw: RawSample) -> Example:
        """The target is None without a label that is a class of `meta` (the weights may have others)."""
        image = EncodedImage(raw.image)
        label = read_label(raw) if "cls" in raw.members else None
        target = self.meta.index_of(label) if label in self.meta.class_ids else None
        decoded, reduction = image.decode(largest_scale(image.size, self.size))
        return _example(raw, stretch(decoded, image.size, self.size, reduction), target, image.size)


def read_label(raw: RawSample) -> int:
    """The class id of a sample. `UserError` without one; who reads the sample adds its name."""
    try:
        return decode_label(raw.members["cls"])
    except (KeyError, DecodeError):
        raise UserError("no class (.cls member); build the shards from labelled data") from None


def collate(examples: Sequence[Example]) -> Batch:
    """Images uint8 [B, 3, H, W]; targets int64 [B], or None where a sample has none."""
    targets = [example.target for example in examples]
    images = torch.stack([example.image for example in examples])
    stacked = None if None in targets else torch.tensor(targets)
    return Batch("cls", images, stacked, [example.source for example in examples])


def _example(raw: RawSample, pixels: Tensor, target: int | None, size: tuple[int, int]) -> Example:
    return Example(pixels.contiguous(), target, {"file_name": raw.file_name, "size": size})
