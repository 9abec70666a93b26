"""Task gradients of a plain torch optimizer in one process: no DeepSpeed, the same numbers."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class PlainGradients:
    """The whole gradients, in `parameter.grad`; a `task_gradients.GradientHolder`.

    Args:
        optimizer: any torch optimizer whose groups carry `SHARED`.
    """

    world = 1

    def __init__(self, optimizer: torch.optim.Optimizer) -> None:
        self.optimizer, self.groups = optimizer, optimizer.param_groups
        self.device = self.groups[0]["params"][0].device
        self.combined = False

    def backward(self, loss: Tensor, last: bool) -> None:
        """See `GradientHolder`; autograd adds up in `grad`."""
        if self.combined:  # What the last step took is still there.
            self.optimizer.zero_grad()
            self.combined = False
        loss.backward()

    def take(self, group: int) -> list[Tensor]:
        """The group's gradients; zeros for a parameter that the loss did not touch."""
        part = []
        for parameter in self.groups[group]["params"]:
            part.append(torch.zeros_like(parameter) if parameter.grad is None else parameter.grad)
            parameter.grad = None
        return part

    def put(self, group: int, part: list[Tensor]) -> None:
        """See `GradientHolder`."""
        for parameter, gradient in zip(self.groups[group]["params"], part, strict=True):
            parameter.grad = gradient
        self.combined = True

    def layout(self, group: int) -> list[nn.Parameter | None]:
        """See `GradientHolder`."""
        return list(self.groups[group]["params"])

    def forget(self) -> None:
        """See `GradientHolder`."""
        self.optimizer.zero_grad()
