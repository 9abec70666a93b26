"""From the Gram matrix of the task gradients to one weight a task, in fp64 on the CPU.

Every method here returns weights w(G) with the combined gradient sum_t w_t g_t. Where TorchJD (torchjd.org) has the
weighting, it is TorchJD's.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable

import torch
from torch import Tensor


def combine_weights(method: str, gram_TT: Tensor, seed: int, step: int) -> Tensor:
    """Weights of the task gradients.

    Args:
        method: `none` (ones, a plain sum) or `pcgrad` (arXiv 2001.06782, Algorithm 1).
        gram_TT: inner products of the task gradients, fp64 [T, T].
        seed: of the run.
        step: of the run. PCGrad's random projection order is a function of (seed, step), so that a resumed run goes on
            with the same orders.

    Returns:
        fp64 [T]. Gradients that agree get ones, so the learning rate means the same with and without surgery.
    """
    return METHODS[method](gram_TT.double().cpu(), seed, step)


def _none(gram_TT: Tensor, seed: int, step: int) -> Tensor:
    return torch.ones(len(gram_TT), dtype=torch.float64)


def _pcgrad(gram_TT: Tensor, seed: int, step: int) -> Tensor:
    from torchjd.aggregation import PCGradWeighting

    # TorchJD draws its orders from torch's global generator; the training's own state is kept out of it.
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(zlib.crc32(f"surgery {seed} {step}".encode()))
        return PCGradWeighting()(gram_TT)


METHODS: dict[str, Callable[[Tensor, int, int], Tensor]] = {"none": _none, "pcgrad": _pcgrad}
