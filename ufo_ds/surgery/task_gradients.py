"""Backward passes of several tasks into one optimizer step, whoever holds the gradients."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import torch
import torch.distributed as dist
from torch import Tensor, nn

from ufo_ds.errors import UserError
from ufo_ds.recipe import SurgeryConfig
from ufo_ds.surgery.clipping import clip_factors, task_limit
from ufo_ds.surgery.findings import Findings
from ufo_ds.surgery.gram import gram_matrices
from ufo_ds.surgery.methods import make_weighting
from ufo_ds.surgery.weighting import SolverError

SHARED = "shared"
"""Key of an optimizer group whose parameters all tasks share; groups without it belong to one task each."""
WHOLE = ["trunk"]


class GradientHolder(Protocol):
    """Where the gradients of the optimizer's groups are: `zero.ZeroPartitions` or `plain.PlainGradients`.

    A group's gradient is a list of tensors, on this rank: its partition, or the whole.
    """

    groups: list[dict[str, Any]]
    world: int
    device: torch.device
    """Where the ranks exchange numbers; the gradients themselves may be elsewhere."""

    def backward(self, loss: Tensor, last: bool) -> None:
        """Run `loss` backward. Gradients add up over the calls until one is the `last`; then they can be taken."""
        ...

    def take(self, group: int) -> list[Tensor]:
        """The group's gradient, averaged over the ranks. It is the caller's; the holder starts anew."""
        ...

    def put(self, group: int, part: list[Tensor]) -> None:
        """Hand a gradient of the structure that `take` gave to the optimizer's next step."""
        ...

    def layout(self, group: int) -> list[nn.Parameter | None]:
        """For each tensor of `take` the parameter it is a piece of; None for padding."""
        ...

    def forget(self) -> None:
        """Drop every gradient, as if no backward had been."""
        ...


class TaskGradients:
    """The task gradients of a step, combined on the shared parameters, summed on the tasks' own.

    For each step: `backward(task, loss)` for every task (several times, for micro-batches), `combine()`, the
    optimizer's step, `observe(losses)`.

    A task whose loss or gradient is not finite, on any rank, is left out of that step: of the Gram matrix, of the
    combination and of its own parameters. The others take the step without it. Where no task is left, there is
    nothing for the optimizer to take: its step has to be passed over (`Findings.empty`).

    Args:
        holder: of the gradients. Its optimizer groups carry `SHARED`.
        tasks: names in a fixed order, the same on every rank.
        config: the recipe's `surgery`.
        seed: of the run.
        depth: for each shared parameter the block of the trunk that it belongs to, in the order of depth; needed
            for `scope: block` and `log_blocks`.

    Raises:
        UserError: settings that do not go together.
    """

    def __init__(
        self,
        holder: GradientHolder,
        tasks: Sequence[str],
        config: SurgeryConfig,
        seed: int,
        depth: Mapping[nn.Parameter, str] | None = None,
    ) -> None:
        self.holder, self.tasks, self.config, self.seed = holder, list(tasks), config, seed
        self.shared = [i for i, group in enumerate(holder.groups) if group.get(SHARED)]
        self.own = [i for i, group in enumerate(holder.groups) if not group.get(SHARED)]
        by_block = config.scope == "block" or config.log_blocks
        assert not by_block or depth is not None, "blocks are asked for, and none were given"
        self.depth = dict(depth) if by_block and depth else None
        self.blocks = list(dict.fromkeys(self.depth.values())) if self.depth else WHOLE
        first = make_weighting(config, self.tasks)
        scopes = len(self.blocks) if config.scope == "block" and not first.on_losses else 1
        self.weightings = [first, *(make_weighting(config, self.tasks) for _ in range(scopes - 1))]
        self.on_losses = first.on_losses
        self.clip = task_limit(config, self.on_losses)
        if config.every < 0 or (config.every == 0 and not self.on_losses):
            raise UserError(f"key 'surgery.every' is {config.every}; {config.method} needs a Gram matrix: 1 or more")
        self.weights_ST = torch.ones(scopes, len(self.tasks), dtype=torch.float64)
        self.step = 1  # of the run: the one that comes, or is under way
        self._parts: dict[str, dict[int, list[Tensor]]] = {}
        self._sums: dict[int, list[Tensor]] = {}
        self._done: set[str] = set()
        self._skipped: set[str] = set()
        self._finite: Tensor | None = None
        self._block_of: dict[int, list[int]] = {}
        self._start()

    def backward(self, task: str, loss: Tensor, last: bool = True) -> None:
        """Run `loss` backward for a task.

        Args:
            task: its name.
            loss: scalar; for several micro-batches a task, divided by their number.
            last: whether this is the task's last micro-batch of the step.
        """
        assert task not in self._done, f"a second gradient of {task} before combine()"
        if self.on_losses:
            loss = loss * float(self.weights_ST[0, self.tasks.index(task)])
        self.holder.backward(loss, last)
        finite = loss.detach().isfinite()
        self._finite = finite if self._finite is None else self._finite & finite
        if not last:
            return
        parts = {group: self.holder.take(group) for group in [*self.own, *self.shared]}
        if self._agree_finite(parts):
            self._keep(task, parts)
        else:
            self._skipped.add(task)
        self._finite = None
        self._done.add(task)

    def _agree_finite(self, parts: Mapping[int, list[Tensor]]) -> bool:
        """Whether the losses and every rank's part of the gradient are finite: the same answer on all ranks."""
        tensors = [tensor for part in parts.values() for tensor in part if tensor.numel()]
        largest = torch.stack(torch._foreach_norm(tensors, float("inf")))
        finite = largest.isfinite().all().to(self.holder.device) & self._finite
        if self.holder.world > 1:
            finite = finite.float()
            dist.all_reduce(finite, dist.ReduceOp.MIN)
        return bool(finite)

    def _keep(self, task: str, parts: dict[int, list[Tensor]]) -> None:
        for group in self.own:
            # Heads have weight 1: their gradients add up in one slot, whatever the number of tasks.
            self._add(group, parts.pop(group), None)
        if self.due:
            self._parts[task] = parts
            return
        for group, part in parts.items():
            self._add(group, part, None if self.on_losses else self.tasks.index(task))

    @property
    def due(self) -> bool:
        """Whether the present step computes a Gram matrix."""
        return self.config.every > 0 and (self.step - 1) % self.config.every == 0

    def combine(self) -> Findings:
        """Weigh the gradients and hand the result to the optimizer, for its step."""
        assert self._done == set(self.tasks), f"no gradient of {set(self.tasks) - self._done} before combine()"
        kept = [task for task in self.tasks if task not in self._skipped]
        findings = self._operate(kept) if self.due and kept else Findings(self.tasks, self.weights_ST)
        findings.skipped = sorted(self._skipped, key=self.tasks.index)
        for group, part in self._sums.items():
            self.holder.put(group, part)
        if not kept:
            self.holder.forget()
        self._parts, self._sums, self._done, self._skipped = {}, {}, set(), set()
        self.step += 1
        self._start()
        return findings

    def observe(self, losses: Mapping[str, float]) -> None:
        """Show the losses as they went backward, averaged over the ranks, to methods that learn from them.

        There is nothing to learn from a step with a loss that is not finite.
        """
        losses_T = torch.tensor([losses[task] for task in self.tasks], dtype=torch.float64)
        for weighting in self.weightings if bool(losses_T.isfinite().all()) else ():
            weighting.observe(losses_T)
        self._start()

    def state(self) -> dict[str, Any]:
        """What an exact resume needs: numbers and lists, the same on every rank."""
        return {
            "step": self.step,
            "weights": self.weights_ST.tolist(),
            "weightings": [weighting.state() for weighting in self.weightings],
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go on after the step whose `state` this is."""
        self.step = int(state["step"])
        self.weights_ST = torch.tensor(state["weights"], dtype=torch.float64)
        for weighting, saved in zip(self.weightings, state["weightings"], strict=True):
            weighting.restore(saved)
        self._start()

    def _start(self) -> None:
        """The weights of a coming step, where they do not wait for its gradients."""
        if self.on_losses:
            self.weights_ST = self.weightings[0].weights(None, self._draw(0))[None]

    def _operate(self, kept: list[str]) -> Findings:
        """Gram matrices, weights and the combination of the tasks that are `kept`; the others count as zeros."""
        parts = [self._parts[task] for task in kept]
        places = [self.tasks.index(task) for task in kept]
        tensors = [[tensor for group in self.shared for tensor in part[group]] for part in parts]
        blocks = self._blocks_of_tensors() if self.depth else None
        found = gram_matrices(tensors, blocks, len(self.blocks))
        if self.holder.world > 1:
            found = found.to(self.holder.device)
            dist.all_reduce(found)
        grams_BTT = torch.zeros(len(found), len(self.tasks), len(self.tasks), dtype=torch.float64)
        grams_BTT[:, torch.tensor(places)[:, None], torch.tensor(places)] = found.cpu()
        if self.on_losses:  # The gradients carry the weights already; what follows speaks of them without.
            weights_T = self.weights_ST[0]
            grams_BTT = grams_BTT / (weights_T[:, None] * weights_T[None])
        grams_STT = grams_BTT if len(self.weights_ST) > 1 else grams_BTT.sum(0, keepdim=True)
        clip_ST = clip_factors(grams_STT, self.clip) if self.clip else None
        failed = False
        if not self.on_losses:
            failed = self._weigh(grams_STT, clip_ST)
            scales_ST = self.weights_ST
        else:
            scales_ST = torch.ones_like(self.weights_ST) if clip_ST is None else self._agree(clip_ST)
        _weighted_sum_(tensors, scales_ST[:, places], blocks if len(scales_ST) > 1 else None)
        self._sums |= {group: parts[0][group] for group in self.shared}
        return Findings(self.tasks, self.weights_ST, grams_BTT, self.blocks if self.depth else [], failed, clip=clip_ST)

    def _weigh(self, grams_STT: Tensor, clip_ST: Tensor | None) -> bool:
        """Set the weights, as rank 0 finds them. Returns whether a method failed; its weights are then ones.

        A clipped gradient is s_t g_t. So the method sees the Gram matrix S G S, and its weights are multiplied by s.
        """
        if clip_ST is not None:
            grams_STT = grams_STT * clip_ST[:, :, None] * clip_ST[:, None]
        weights_ST, failed = torch.ones_like(self.weights_ST), torch.zeros(1, dtype=torch.float64)
        if self.holder.world == 1 or dist.get_rank() == 0:
            for scope, weighting in enumerate(self.weightings):
                try:
                    weights_ST[scope] = _finite(weighting.weights(grams_STT[scope], self._draw(scope)))
                except SolverError:
                    failed += 1
            weights_ST *= 1 if clip_ST is None else clip_ST
        agreed = self._agree(torch.cat([weights_ST.flatten(), failed]))
        self.weights_ST = agreed[:-1].view_as(weights_ST)
        return bool(agreed[-1])

    def _agree(self, values: Tensor) -> Tensor:
        """Rank 0's values on every rank: the combination is one vector only if the weights are the same bits."""
        if self.holder.world == 1:
            return values
        shared = values.to(self.holder.device)
        dist.broadcast(shared, src=0)
        return shared.cpu()

    def _draw(self, scope: int) -> str:
        return f"surgery {self.seed} {self.step}" + (f" {scope}" if scope else "")

    def _add(self, group: int, part: list[Tensor], task: int | None) -> None:
        """Add a part to the group's one slot, times the task's present weight (None: as it is)."""
        if task is not None:
            blocks = self._group_blocks(group) if len(self.weights_ST) > 1 else None
            _scale_(part, self.weights_ST[:, task], blocks)
        if group in self._sums:
            torch._foreach_add_(list(self._sums[group]), list(part))
        else:
            self._sums[group] = part

    def _blocks_of_tensors(self) -> list[int]:
        return [block for group in self.shared for block in self._group_blocks(group)]

    def _group_blocks(self, group: int) -> list[int]:
        """For each tensor of a group its block; padding, all zeros, may count to any."""
        if group not in self._block_of:
            assert self.depth is not None
            index = {name: i for i, name in enumerate(self.blocks)}
            self._block_of[group] = [
                0 if parameter is None else index[self.depth[parameter]] for parameter in self.holder.layout(group)
            ]
        return self._block_of[group]


def _finite(weights_T: Tensor) -> Tensor:
    if not bool(weights_T.isfinite().all()):
        raise SolverError("weights that are not finite")
    return weights_T


def _scale_(part: list[Tensor], weights_S: Tensor, blocks: list[int] | None) -> None:
    """part[k] *= weight of its block, in place."""
    if blocks is not None:
        torch._foreach_mul_(list(part), [float(weights_S[block]) for block in blocks])
    elif float(weights_S[0]) != 1.0:
        torch._foreach_mul_(list(part), float(weights_S[0]))


def _weighted_sum_(tensors: list[list[Tensor]], weights_ST: Tensor, blocks: list[int] | None) -> None:
    """tensors[0] <- sum over tasks of weight * tensors[task], in place."""
    _scale_(tensors[0], weights_ST[:, 0], blocks)
    for task, others in enumerate(tensors[1:], start=1):
        if blocks is None:
            torch._foreach_add_(tensors[0], others, alpha=float(weights_ST[0, task]))
        else:
            _scale_(others, weights_ST[:, task], blocks)
            torch._foreach_add_(tensors[0], others)
