"""What passes from the trunk to the heads, and what a head must know of the trunk."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor


@dataclass
class Features:
    """What the trunk hands to a head.

    Attributes:
        maps: token maps from several depths, shallow to deep, each [B, D, h, w] at the patch stride.
        prefix: the last depth's prefix tokens [B, P, D] (class token first), or None for a trunk without.
        input_size: (H, W) in pixels of the network's input, a multiple of the patch size.
    """

    maps: list[Tensor]
    prefix: Tensor | None
    input_size: tuple[int, int]


@dataclass(frozen=True)
class TrunkShape:
    """What a head is built for.

    Attributes:
        width: channels D of a token map.
        depths: number of token maps.
        patch: pixels a token, both ways.
        prefix_tokens: class and register tokens; 0 for a trunk without.
    """

    width: int
    depths: int
    patch: int
    prefix_tokens: int
