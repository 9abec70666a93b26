"""A test at the start of a run: does DeepSpeed still leave each rank the gradients that surgery takes over?"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
import torch.distributed as dist
from torch import Tensor, nn

from ufo_ds.errors import UserError
from ufo_ds.surgery.zero import ZeroPartitions

EXACT, ROUNDED = 1e-5, 3e-2
"""Relative error allowed where gradients travel in fp32, and where some travel in bf16."""
LARGEST = 2**22
"""Elements above which a parameter is passed over, for the time it takes."""
FACTORS = (2.0, -0.5)
"""Of the two made-up task gradients in their combination."""


def check_partitions(partitions: ZeroPartitions, micro_batches: int = 1) -> None:
    """Run two made-up losses backward and compare what DeepSpeed leaves with plain autograd: each rank's partition of
    each, and DeepSpeed's own norm of a combination put back. Weights and optimizer stay as they are.

    Raises:
        UserError: on all ranks, where anything differs on one.
    """
    try:
        errors = _errors(partitions, micro_batches)
    except (AttributeError, KeyError, IndexError, TypeError, AssertionError, RuntimeError) as problem:
        raise UserError(_message(f"{type(problem).__name__}: {problem}")) from problem
    groups = range(len(partitions.groups))
    allowed = EXACT if all(partitions.exact(group) for group in groups) else ROUNDED
    wrong = [error for error in errors if not error <= allowed]  # so that NaN is wrong too
    if wrong:
        raise UserError(_message(f"they differ from autograd's by {wrong[0]:.1e}, {allowed:.0e} is allowed"))


def _message(what: str) -> str:
    import deepspeed

    return (
        f"DeepSpeed {deepspeed.__version__} does not hand over task gradients as gradient surgery needs them ({what}); "
        "install the version in constraints.txt"
    )


def _errors(partitions: ZeroPartitions, micro_batches: int) -> list[float]:
    """Relative errors of the two gradients and of the norm, the same on every rank."""
    groups = range(len(partitions.groups))
    samples = [_samples(partitions.parameters(group)) for group in groups]
    taken: list[list[list[Tensor]]] = []
    square = torch.zeros((), dtype=torch.float64)
    errors, means = [], []
    for task in range(len(FACTORS)):
        found = {p: torch.zeros_like(p, dtype=torch.float32) for group in samples for p in group}
        for micro in range(micro_batches):
            loss = _made_up_loss(list(found), (task * micro_batches + micro) * partitions.world + partitions.rank)
            plain = torch.autograd.grad(loss, list(found), retain_graph=True)
            found = {p: total + gradient.float() for (p, total), gradient in zip(found.items(), plain, strict=True)}
            partitions.backward(loss, last=micro == micro_batches - 1)
        means.append(_mean_over_ranks(found, partitions.world))
        taken.append([partitions.take(group) for group in groups])
        errors.append(_error(partitions, taken[-1], means[-1]))
    for group in groups:
        combined = taken[0][group]
        torch._foreach_mul_(list(combined), FACTORS[0])
        torch._foreach_add_(list(combined), list(taken[1][group]), alpha=FACTORS[1])
        partitions.put(group, combined)
    for parameter in means[0]:
        square += (FACTORS[0] * means[0][parameter] + FACTORS[1] * means[1][parameter]).double().square().sum().cpu()
    expected = math.sqrt(float(square))
    errors.append(abs(partitions.norm() - expected) / expected)
    partitions.forget()
    return errors


def _samples(parameters: Sequence[nn.Parameter]) -> list[nn.Parameter]:
    """The first, the middle and the last parameter of a group: in different partitions where there are several."""
    fit = [parameter for parameter in parameters if parameter.numel() <= LARGEST]
    return list(dict.fromkeys([fit[0], fit[len(fit) // 2], fit[-1]])) if fit else []


def _made_up_loss(parameters: Sequence[nn.Parameter], seed: int) -> Tensor:
    """A loss that is linear in the parameters, with small whole coefficients: bf16 holds those exactly."""
    generator = torch.Generator().manual_seed(seed)
    terms = [
        (p.float() * torch.randint(-4, 5, p.shape, generator=generator).to(p.device)).sum() for p in parameters
    ]
    return torch.stack(terms).sum()


def _mean_over_ranks(gradients: dict[nn.Parameter, Tensor], world: int) -> dict[nn.Parameter, Tensor]:
    if world > 1:
        for gradient in gradients.values():
            dist.all_reduce(gradient)
            gradient /= world
    return gradients


def _error(partitions: ZeroPartitions, parts: list[list[Tensor]], expected: dict[nn.Parameter, Tensor]) -> float:
    """Relative error of all ranks' partitions together."""
    sums = torch.zeros(2, dtype=torch.float64)
    for group, part in enumerate(parts):
        pieces = list(partitions.pieces(group))
        sizes = [tensor.numel() for tensor in part]
        if sizes[: len(pieces)] != [stop - start for _, start, stop in pieces]:
            sums[0] = math.inf  # not raised: the other ranks wait for this one's sums
            continue
        for (parameter, start, stop), tensor in zip(pieces, part, strict=False):
            whole = expected.get(parameter)
            wanted = torch.zeros_like(tensor) if whole is None else whole.view(-1)[start:stop].to(tensor.device)
            sums[0] += (tensor.reshape(-1) - wanted.reshape(-1)).double().square().sum().cpu()
            sums[1] += wanted.double().square().sum().cpu()
        for padding in part[len(pieces) :]:
            sums[0] += padding.double().square().sum().cpu()
    if partitions.world > 1:
        reduced = sums.to(partitions.device)
        dist.all_reduce(reduced)
        sums = reduced.cpu()
    return math.sqrt(float(sums[0] / sums[1]))
