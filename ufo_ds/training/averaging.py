"""An exponential moving average of the weights, which is what is evaluated and kept where a recipe asks for it."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import nn

from ufo_ds.assembly import read_tensors, write_tensors

FILE = "average.safetensors"
"""Beside DeepSpeed's files in a checkpoint."""


class WeightAverage:
    """The average of a model's weights over its steps (arXiv 1703.01780), warmed up as timm does it.

    Every rank holds all weights under ZeRO-2, and so its own average; they are the same bits.

    Args:
        model: in training.
        twin: built alike; it becomes the average. A copy would not do: heads bind functions to their modules.
        decay: of the average a step, once it is warm.
    """

    def __init__(self, model: nn.Module, twin: nn.Module, decay: float) -> None:
        self.source, self.decay = model, decay
        self.model = twin.eval().requires_grad_(False)
        self.model.load_state_dict(model.state_dict())

    def decay_at(self, step: int) -> float:
        """The decay of a step, from 1: small at first, so that the random start is forgotten."""
        return min(self.decay, (1 + step) / (10 + step))

    @torch.no_grad()
    def update(self, step: int) -> None:
        """Take the weights in after a step; what is no parameter is copied."""
        weights = [value.detach() for value in self.source.parameters()]
        torch._foreach_lerp_(list(self.model.parameters()), weights, 1 - self.decay_at(step))
        for average, value in zip(self.model.buffers(), self.source.buffers(), strict=True):
            average.copy_(value)

    def save(self, folder: Path) -> None:
        """Write `average.safetensors`. Raises `UserError`."""
        write_tensors(self.model, folder / FILE)

    def load(self, folder: Path) -> None:
        """Take over what `save` wrote. Raises `UserError`."""
        self.model.load_state_dict(read_tensors(folder / FILE))
