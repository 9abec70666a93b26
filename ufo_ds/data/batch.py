"""One transformed sample, and a batch of one task."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor


@dataclass
class Example:
    """One decoded, transformed sample of one task.

    Attributes:
        image: uint8 [3, H, W], RGB; normalisation happens on the device, in the trunk.
        target: what the head's loss takes, or None when the sample has no labels.
        source: where it came from: `file_name`, `size` (original (H, W) in pixels), and what the task needs to map
            predictions back to the original image (for det: `image_id`, `scale`, the factor original -> input).
        left_out: companions that could not be decoded, and so are not in it.
    """

    image: Tensor
    target: Any
    source: dict[str, Any]
    left_out: int = 0


@dataclass
class Batch:
    """A batch of ONE task. `images` is uint8 [B, 3, H, W], or float32 of 0..255 where pictures were mixed; `targets`
    and `sources` have one entry a sample, except that dense targets may be stacked ([B, H, W] for seg; for cls [B], or
    [B, K] where mixed).
    """

    task: str
    images: Tensor
    targets: Any
    sources: list[dict[str, Any]]
    replaced: int = 0
    """Samples that could not be decoded: replaced by their successor in the order, or, as companions, left out."""

    def to(self, device: torch.device) -> Batch:
        """The batch with images and tensor targets on `device`."""
        return Batch(self.task, self.images.to(device, non_blocking=True), _move(self.targets, device), self.sources,
                     self.replaced)


def _move(value: Any, device: torch.device) -> Any:
    if isinstance(value, Tensor):
        return value.to(device, non_blocking=True)
    if isinstance(value, Mapping):
        return {key: _move(item, device) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(_move(item, device) for item in value)
    return value
