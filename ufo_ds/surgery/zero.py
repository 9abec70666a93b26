"""Task gradients on ZeRO: the one file that knows DeepSpeed's private attributes.

ZeRO averages a gradient over the ranks and leaves each rank its partition. Without optimizer offload that is
`optimizer.averaged_gradients[group]`: a list of tensors, one for each parameter that has a piece in the partition, and
padding. It is allocated anew for each backward at an accumulation boundary, so it can be taken over without a copy. A
second backward before the step overwrites it (since DeepSpeed 0.17.6: in silence), which is why it must be.

With optimizer offload it is `single_partition_of_fp32_groups[group].grad`: one flat tensor in host memory, which lives
as long as the engine. Taking it over means to leave another in its place.

Put back, the combination goes the way of any gradient: clipping, norms, overflow checks and checkpoints as always.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn

from ufo_ds.errors import UserError

TESTED = ("0.19.",)
"""Beginnings of the DeepSpeed versions that this file was tested with; others warn, and the self-test decides."""
FRESH_MICRO_STEP = -1
ENGINE_SETTINGS: dict[str, Any] = {
    "communication_data_type": "fp32",
    "data_types": {"grad_accum_dtype": "fp32"},
    "zero_allow_untested_optimizer": True,
    "zero_force_ds_cpu_optimizer": False,
}
"""Of DeepSpeed's JSON, what exact task gradients need (fp32 on the wire and at rest; under `torch_autocast`,
`lower_precision_safe_modules: []` as well), and what lets torch's own optimizers run under ZeRO."""


def hold_partitions(engine: Any) -> ZeroPartitions:
    """The holder for an engine of `deepspeed.initialize`.

    Raises:
        UserError: an engine whose partitions cannot be taken over exactly.
    """
    zero = engine.optimizer
    if not hasattr(zero, "averaged_gradients") or not hasattr(zero, "bit16_groups"):
        raise UserError(
            f"key 'deepspeed': surgery works on ZeRO stages 1 and 2, this engine runs {type(zero).__name__}; set "
            "zero_optimization.stage to 2 (stage 1 with bf16 weights is another class in DeepSpeed, and not supported)"
        )
    if getattr(zero, "round_robin_gradients", False):
        raise UserError("key 'deepspeed': set zero_optimization.round_robin_gradients to false")
    if zero.gradient_accumulation_dtype != torch.float32:
        raise UserError("key 'deepspeed': gradients must be kept in fp32; set data_types.grad_accum_dtype to fp32")
    return OffloadedPartitions(engine) if zero.cpu_offload else ZeroPartitions(engine)


class ZeroPartitions:
    """This rank's partitions of the averaged gradients; a `task_gradients.GradientHolder`."""

    def __init__(self, engine: Any) -> None:
        self.engine, self.zero = engine, engine.optimizer
        self.groups: list[dict[str, Any]] = self.zero.optimizer.param_groups
        self.world: int = torch.distributed.get_world_size(self.zero.dp_process_group)
        self.rank: int = torch.distributed.get_rank(self.zero.dp_process_group)
        self.device = torch.device(engine.device)

    def backward(self, loss: Tensor, last: bool) -> None:
        """See `GradientHolder`."""
        self.engine.set_gradient_accumulation_boundary(last)
        self.engine.backward(loss)

    def take(self, group: int) -> list[Tensor]:
        """See `GradientHolder`."""
        part = self.zero.averaged_gradients[group]
        assert part is not None, f"DeepSpeed left no gradient for optimizer group {group}"
        self.zero.averaged_gradients[group] = None
        return part

    def put(self, group: int, part: list[Tensor]) -> None:
        """See `GradientHolder`."""
        self.zero.averaged_gradients[group] = part

    def layout(self, group: int) -> list[nn.Parameter | None]:
        """See `GradientHolder`."""
        pieces: list[nn.Parameter | None] = [parameter for parameter, _, _ in self.pieces(group)]
        size = int(self.zero.partition_size[group])
        return pieces if sum(stop - start for _, start, stop in self.pieces(group)) == size else [*pieces, None]

    def pieces(self, group: int) -> Iterator[tuple[nn.Parameter, int, int]]:
        """The parameters with a piece in this rank's partition, each with the piece's range of its elements."""
        size = int(self.zero.partition_size[group])
        low, offset = self.rank * size, 0
        for parameter in self.zero.bit16_groups[group]:
            start, stop = max(low - offset, 0), min(low + size - offset, parameter.numel())
            if start < stop:
                yield parameter, start, stop
            offset += parameter.numel()

    def parameters(self, group: int) -> list[nn.Parameter]:
        """The model's parameters of a group, in the order in which they are partitioned."""
        return list(self.zero.bit16_groups[group])

    def exact(self, group: int) -> bool:
        """Whether the group's gradients travel in fp32."""
        return all(self.zero.get_param_comm_dtype(p) == torch.float32 for p in self.zero.bit16_groups[group])

    def norm(self) -> float:
        """DeepSpeed's own norm of what the next step would take, over all ranks."""
        return float(self.zero.scaled_global_norm())

    def forget(self) -> None:
        """Drop every gradient, as if no backward had been."""
        for group in range(len(self.groups)):
            self.zero.averaged_gradients[group] = None
        self.zero.micro_step_id = FRESH_MICRO_STEP


class OffloadedPartitions(ZeroPartitions):
    """Partitions in host memory, under `offload_optimizer`: T tensors a group, allocated once, that change places."""

    def __init__(self, engine: Any) -> None:
        super().__init__(engine)
        self.home = [partition.grad for partition in self.zero.single_partition_of_fp32_groups]
        self.spare: dict[int, list[Tensor]] = {group: [] for group in range(len(self.groups))}
        self.out: dict[int, list[Tensor]] = {group: [] for group in range(len(self.groups))}
        self.begun = False

    def backward(self, loss: Tensor, last: bool) -> None:
        """See `GradientHolder`."""
        if not self.begun:
            if not any(self.out.values()):  # The last step's gradient is still there.
                for partition in self.zero.single_partition_of_fp32_groups:
                    partition.grad.zero_()
            # DeepSpeed adds to what it holds in every backward but the first of a step: each task is a first.
            self.zero.micro_step_id = FRESH_MICRO_STEP
            self.begun = True
        super().backward(loss, last)
        if last and self.device.type != "cpu":
            torch.accelerator.synchronize()  # The copies to the host are under way still.
        self.begun = not last

    def take(self, group: int) -> list[Tensor]:
        """See `GradientHolder`."""
        partition = self.zero.single_partition_of_fp32_groups[group]
        part = partition.grad
        # A parameter without a gradient leaves its range as it was: the next tensor starts from zeros.
        partition.grad = self.spare[group].pop().zero_() if self.spare[group] else _zeros_like(part)
        self.out[group].append(part)
        self.zero.averaged_gradients[group] = None
        return self._cut(group, part)

    def put(self, group: int, part: list[Tensor]) -> None:
        """See `GradientHolder`; the norms that DeepSpeed clips by are those of the combination."""
        partition = self.zero.single_partition_of_fp32_groups[group]
        chosen = next(flat for flat in self.out[group] if flat.data_ptr() == part[0].data_ptr())
        # DeepSpeed's debugging views stay on the tensor that it made.
        if chosen is not self.home[group]:
            self.home[group].copy_(chosen)
        spare = {id(flat): flat for flat in [*self.spare[group], *self.out[group], partition.grad]}
        spare.pop(id(self.home[group]), None)
        self.spare[group], self.out[group] = list(spare.values()), []
        partition.grad = self.home[group]
        for (parameter, _, _), piece in zip(self.pieces(group), self._cut(group, self.home[group]), strict=False):
            self.zero.norm_for_param_grads[self.zero.get_param_id(parameter)] = piece.double().norm().float()

    def forget(self) -> None:
        """See `ZeroPartitions`."""
        super().forget()
        self.begun = False
        for group, partition in enumerate(self.zero.single_partition_of_fp32_groups):
            partition.grad.zero_()
            self.spare[group] += self.out[group]
            self.out[group] = []
        self.zero.reset_cpu_buffers()

    def _cut(self, group: int, flat: Tensor) -> list[Tensor]:
        """The flat partition as one view for each piece, and one of the padding."""
        sizes = [stop - start for _, start, stop in self.pieces(group)]
        rest = flat.numel() - sum(sizes)
        return list(flat.view(-1).split([*sizes, rest] if rest else sizes))


def _zeros_like(flat: Tensor) -> Tensor:
    zeros = torch.zeros_like(flat)
    return zeros.pin_memory() if flat.is_pinned() else zeros


def unknown_version() -> str | None:
    """A warning where this DeepSpeed is not one of `TESTED`."""
    import deepspeed

    if deepspeed.__version__.startswith(TESTED):
        return None
    return (
        f"DeepSpeed {deepspeed.__version__} is not among those that gradient surgery was tested with "
        f"({', '.join(version + 'x' for version in TESTED)}); the self-test decides"
    )
