"""What a weighting is, and the scale that all are on.

There are two kinds. Those on the Gram matrix see the inner products of the task gradients and weigh them; those on
the losses see the losses of the steps so far and cost nothing.

Scale: every method gives ones to orthogonal gradients of equal norm, that is, it takes the plain sum where there is
nothing to mend. The published forms differ by constant factors (a mean instead of a sum, 1/T and the like), which
would change the learning rate with the method. Weights on the losses always sum to T.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Protocol

import torch
from torch import Tensor


class Weighting(Protocol):
    """Weights of T task gradients, fp64 [T] on the CPU. `on_losses` tells the kind."""

    on_losses: bool

    def weights(self, gram_TT: Tensor | None, draw: str) -> Tensor:
        """The weights of a step.

        Args:
            gram_TT: inner products of the task gradients, fp64 [T, T] on the CPU; None for weightings on the losses.
            draw: names the random draw, e.g. by seed and step. The same name gives the same draw.
        """
        ...

    def observe(self, losses_T: Tensor) -> None:
        """See the losses of a step, fp64 [T], the same on every rank. Weightings on the Gram matrix ignore them."""
        ...

    def state(self) -> dict[str, Any]:
        """What a resumed run needs to go on exactly; numbers and lists only, {} without a state."""
        ...

    def restore(self, state: dict[str, Any]) -> None:
        """Take over what `state` returned."""
        ...


class SolverError(Exception):
    """A weighting found no weights for this Gram matrix."""


@contextmanager
def drawn(name: str) -> Iterator[None]:
    """Draws from torch's global generator (TorchJD's) as a function of `name`; the training's own state is kept."""
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(zlib.crc32(name.encode()))
        yield
