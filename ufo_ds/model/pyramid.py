"""Maps at several strides from the token maps of a plain ViT."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from timm.layers import LayerNorm2d
from torch import Tensor, nn

from ufo_ds.model.features import TrunkShape


class Pyramid(nn.Module):
    """Feature maps at strides of powers of two around the patch size.

    Each level mixes the token maps of all depths by a 1 x 1 convolution at the patch stride, then moves to its own
    stride by transposed or strided convolutions. After the simple feature pyramid of ViTDet (arXiv 2203.16527),
    which uses the last depth alone, and DPT (arXiv 2103.13413), which uses several.

    Args:
        shape: of the trunk.
        width: channels of each level.
        strides: nominal strides, ascending. With a patch that is no power of two (14), the level whose nominal
            stride is nearest to the patch keeps the token grid, and the others double or halve it.
    """

    def __init__(self, shape: TrunkShape, width: int, strides: Sequence[int]) -> None:
        super().__init__()
        octaves = [round(math.log2(stride / shape.patch)) for stride in strides]
        self.mix = nn.ModuleList(nn.Conv2d(shape.depths * shape.width, width, 1, bias=False) for _ in strides)
        self.resample = nn.ModuleList(_resample(width, octave) for octave in octaves)
        self.multiple = shape.patch * 2 ** max(0, octaves[-1])
        """The input's sides must be multiples of this many pixels for every level to be twice the next."""

    def forward(self, maps: Sequence[Tensor]) -> list[Tensor]:
        """Token maps, each [B, D, h, w] -> levels, each [B, width, ...], finest first."""
        tokens = torch.cat(list(maps), dim=1)
        return [resample(mix(tokens)) for mix, resample in zip(self.mix, self.resample, strict=True)]


def _resample(width: int, octave: int) -> nn.Sequential:
    layers: list[nn.Module] = [LayerNorm2d(width)]
    for _ in range(-octave):
        layers += [nn.ConvTranspose2d(width, width, 2, stride=2), LayerNorm2d(width), nn.GELU()]
    for _ in range(octave):
        layers += [nn.Conv2d(width, width, 3, stride=2, padding=1), LayerNorm2d(width), nn.GELU()]
    return nn.Sequential(*layers)
