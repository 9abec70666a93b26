"""Clipping of each task's own gradient by the norms that a Gram matrix holds."""

from __future__ import annotations

import torch
from torch import Tensor

from ufo_ds.errors import UserError
from ufo_ds.recipe import SurgeryConfig


def task_limit(config: SurgeryConfig, on_losses: bool) -> float:
    """The largest norm of a task's gradient, 0 for none: `task_clip`, and `tbgc_clip` under its own method.

    Raises:
        UserError: a method on the losses that does not compute a Gram matrix in each step.
    """
    if config.task_clip > 0 and on_losses and config.every != 1:
        raise UserError(
            f"key 'surgery.task_clip' is {config.task_clip:g}: with {config.method} it needs the norms of each step; "
            f"set surgery.every to 1 (it is {config.every}), or take a method on the gradients"
        )
    limits = [config.task_clip, config.tbgc_clip if config.method == "tbgc" else 0.0]
    return min((limit for limit in limits if limit > 0), default=0.0)


def clip_factors(grams_STT: Tensor, limit: float) -> Tensor:
    """s_t = min(1, limit / |g_t|), fp64 [S, T]; 1 for a task without a gradient.

    Args:
        grams_STT: inner products of the task gradients, fp64 [S, T, T].
        limit: largest norm, above 0.
    """
    norm_ST = grams_STT.diagonal(dim1=-2, dim2=-1).clamp(min=0).sqrt()
    return (limit / norm_ST.clamp(min=torch.finfo(torch.float64).tiny)).clamp(max=1)
