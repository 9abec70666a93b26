"""Task gradients on ZeRO-2: the one file that knows DeepSpeed's private attributes.

ZeRO-2 averages a gradient over the ranks and leaves each rank its partition, in `optimizer.averaged_gradients[group]`:
a list of tensors, freshly allocated by each backward. A second backward before the step overwrites it (since DeepSpeed
0.17.6: in silence), so the partitions are taken over after each task's backward, combined, and put back before the
step. Clipping, norms, overflow checks and checkpoints then go on as always.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from ufo_ds.errors import UserError
from ufo_ds.surgery.gram import gram_matrix
from ufo_ds.surgery.weightings import combine_weights

SHARED = "shared"
"""Key of an optimizer group whose parameters all tasks share; groups without it belong to one task each."""


@dataclass
class SurgeryReport:
    """What one combination saw and did.

    Attributes:
        tasks: their names, in the order of the rows below.
        gram: inner products of the task gradients on the shared parameters, over all ranks, fp64 [T, T].
        weights: of the combined gradient, fp64 [T].
    """

    tasks: list[str]
    gram: Tensor
    weights: Tensor

    def as_record(self) -> dict[str, Any]:
        """The figures for the log: norms, cosines (0 where a gradient is zero), share of conflicting pairs, weights."""
        norm_T = self.gram.diagonal().clamp(min=0).sqrt()
        cosine_TT = self.gram / (norm_T[:, None] * norm_T[None]).clamp(min=torch.finfo(torch.float64).tiny)
        above = torch.triu_indices(len(norm_T), len(norm_T), offset=1)
        pairs = cosine_TT[above[0], above[1]]
        return {
            "tasks": self.tasks,
            "weights": self.weights.tolist(),
            "grad_norm": dict(zip(self.tasks, norm_T.tolist(), strict=True)),
            "cosine": cosine_TT.tolist(),
            "conflicts": float((pairs < 0).double().mean()) if len(pairs) else 0.0,
        }


class TaskGradients:
    """Backward passes of several tasks into one ZeRO-2 step.

    For each step: `backward(task, loss)` for every task, then `combine(step)`, then `engine.step()`.

    Args:
        engine: of `deepspeed.initialize`, ZeRO-2 without optimizer offload; the optimizer's groups carry `SHARED`.
        tasks: names in a fixed order, the same on every rank.
        method: of `weightings.combine_weights`.
        seed: of the run.

    Raises:
        UserError: an engine on which the harvest would be wrong.
    """

    def __init__(self, engine: Any, tasks: Sequence[str], method: str, seed: int) -> None:
        self.engine, self.zero = engine, engine.optimizer
        self.tasks, self.method, self.seed = list(tasks), method, seed
        _check_engine(self.zero)
        groups = self.zero.optimizer.param_groups
        self.shared = [i for i, group in enumerate(groups) if group.get(SHARED)]
        self.own = [i for i, group in enumerate(groups) if not group.get(SHARED)]
        self._shared_parts: dict[str, dict[int, Any]] = {}
        self._own_parts: dict[int, Any] = {}

    def backward(self, task: str, loss: Tensor) -> None:
        """Run `loss` backward and take over this rank's partition of its averaged gradient."""
        assert task not in self._shared_parts, f"a second backward of {task} before combine()"
        self.engine.set_gradient_accumulation_boundary(True)
        self.engine.backward(loss)
        self._shared_parts[task] = {group: self._take(group) for group in self.shared}
        for group in self.own:
            part = self._take(group)
            if group in self._own_parts:
                # Heads have weight 1: their gradients add up in one slot, whatever the number of tasks.
                torch._foreach_add_(list(self._own_parts[group]), list(part))
            else:
                self._own_parts[group] = part

    def combine(self, step: int) -> SurgeryReport:
        """Weigh the harvested gradients and hand the result to the engine, in place of its own."""
        parts = [self._shared_parts[task] for task in self.tasks]
        tensors = [[tensor for group in self.shared for tensor in part[group]] for part in parts]
        gram_TT = gram_matrix(tensors)
        if dist.get_world_size() > 1:
            dist.all_reduce(gram_TT)
        weights_T = combine_weights(self.method, gram_TT, self.seed, step)
        weights_T = self._agree(weights_T, gram_TT.device)
        _weighted_sum_(tensors, weights_T.tolist())
        for group in self.shared:
            self.zero.averaged_gradients[group] = parts[0][group]
        for group in self.own:
            self.zero.averaged_gradients[group] = self._own_parts[group]
        self._shared_parts, self._own_parts = {}, {}
        return SurgeryReport(self.tasks, gram_TT.cpu(), weights_T)

    def _take(self, group: int) -> Any:
        part = self.zero.averaged_gradients[group]
        assert part is not None, f"DeepSpeed left no gradient for optimizer group {group}"
        self.zero.averaged_gradients[group] = None
        return part

    def _agree(self, weights_T: Tensor, device: torch.device) -> Tensor:
        """Rank 0's weights, on every rank: the projection is the same vector only if they are the same bits."""
        if dist.get_world_size() == 1:
            return weights_T
        shared = weights_T.to(device)
        dist.broadcast(shared, src=0)
        return shared.cpu()


def _weighted_sum_(tensors: Sequence[list[Tensor]], weights: Sequence[float]) -> None:
    """tensors[0] <- sum of weights[t] * tensors[t], in place."""
    torch._foreach_mul_(tensors[0], weights[0])
    for others, weight in zip(tensors[1:], weights[1:], strict=True):
        torch._foreach_add_(tensors[0], others, alpha=weight)


def _check_engine(zero: Any) -> None:
    if not getattr(zero, "partition_gradients", False) or not hasattr(zero, "averaged_gradients"):
        raise UserError(
            f"key 'deepspeed': surgery needs ZeRO stage 2, this engine runs {type(zero).__name__}; set "
            "zero_optimization.stage to 2"
        )
    if getattr(zero, "cpu_offload", False):
        raise UserError(
            "key 'deepspeed': surgery does not support optimizer offload yet; remove "
            "zero_optimization.offload_optimizer"
        )
    if zero.gradient_accumulation_dtype != torch.float32:
        raise UserError("key 'deepspeed': gradients must be kept in fp32; set data_types.grad_accum_dtype to fp32")
