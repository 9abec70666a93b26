"""Weights on the losses: known before the backward pass, so no gradient need be kept apart. They always sum to T."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ufo_ds.errors import UserError
from ufo_ds.recipe import SurgeryConfig
from ufo_ds.surgery.weighting import drawn


class LossWeighting:
    """The plain sum, and what the others have in common."""

    on_losses = True

    def __init__(self, config: SurgeryConfig, tasks: list[str]) -> None:
        self.config, self.count = config, len(tasks)

    def weights(self, gram_TT: Tensor | None, draw: str) -> Tensor:
        """See `Weighting`."""
        return torch.ones(self.count, dtype=torch.float64)

    def observe(self, losses_T: Tensor) -> None:
        """Nothing to learn."""

    def state(self) -> dict[str, Any]:
        """Nothing to keep."""
        return {}

    def restore(self, state: dict[str, Any]) -> None:
        """Nothing to take over."""


class StaticWeighting(LossWeighting):
    """Tuned scalarization: `surgery.static_weights`, brought to the sum T, so that only their ratios count."""

    def __init__(self, config: SurgeryConfig, tasks: list[str]) -> None:
        super().__init__(config, tasks)
        given = config.static_weights
        unknown, missing = set(given) - set(tasks), set(tasks) - set(given)
        if unknown or missing:
            raise UserError(
                f"key 'surgery.static_weights' names {', '.join(sorted(given)) or 'no task'}; this run trains "
                f"{', '.join(tasks)}, give each a weight, e.g. {{{', '.join(f'{task}: 1.0' for task in tasks)}}}"
            )
        if not all(0 < value < float("inf") for value in given.values()):
            raise UserError(f"key 'surgery.static_weights' is {given}; weights are above 0, tasks.names leaves one out")
        self.given_T = torch.tensor([given[task] for task in tasks], dtype=torch.float64)

    def weights(self, gram_TT: Tensor | None, draw: str) -> Tensor:
        """See `Weighting`."""
        return _sum_to_count(self.given_T)


class RandomWeighting(LossWeighting):
    """Random loss weighting, RLW (arXiv 2111.10603): a softmax of normal draws, anew in each step."""

    def weights(self, gram_TT: Tensor | None, draw: str) -> Tensor:
        """See `Weighting`."""
        from torchjd.aggregation import RandomWeighting as Published

        with drawn(draw):
            return self.count * Published()(torch.eye(self.count, dtype=torch.float64))


class UncertaintyWeighting(LossWeighting):
    """Uncertainty weighting (arXiv 1705.07115): sum of exp(-s_t) L_t / 2 + s_t / 2, with s_t learned by Adam."""

    def __init__(self, config: SurgeryConfig, tasks: list[str]) -> None:
        super().__init__(config, tasks)
        self.log_variance = LearnedVector(self.count, config.uncertainty_lr)

    def weights(self, gram_TT: Tensor | None, draw: str) -> Tensor:
        """See `Weighting`."""
        return _sum_to_count(torch.softmax(-self.log_variance.value, dim=0))

    def observe(self, losses_T: Tensor) -> None:
        """One step of Adam on s, at these losses."""
        self.log_variance.step((1 - torch.exp(-self.log_variance.value) * losses_T) / 2)

    def state(self) -> dict[str, Any]:
        """S and Adam's moments."""
        return self.log_variance.state()

    def restore(self, state: dict[str, Any]) -> None:
        """See `state`."""
        self.log_variance.restore(state)


class FamoWeighting(LossWeighting):
    """FAMO (arXiv 2306.03792): the tasks whose losses fall slowest, relative to their size, gain weight.

    The paper evaluates the losses again after the step, on the same batch. Here the next step's losses stand for
    those, which costs no forward pass; and its factor 1 / L_t uses the last step's L_t.
    """

    SMALLEST = 1e-8

    def __init__(self, config: SurgeryConfig, tasks: list[str]) -> None:
        super().__init__(config, tasks)
        self.logits = LearnedVector(self.count, config.famo_lr, weight_decay=1e-3)
        self.last_T: Tensor | None = None

    def weights(self, gram_TT: Tensor | None, draw: str) -> Tensor:
        """See `Weighting`. Ones before the first losses are known."""
        if self.last_T is None:
            return torch.ones(self.count, dtype=torch.float64)
        return _sum_to_count(torch.softmax(self.logits.value, dim=0) / self.last_T)

    def observe(self, losses_T: Tensor) -> None:
        """One step of Adam on the logits, along the change of the logarithmic losses."""
        losses_T = losses_T.clamp(min=self.SMALLEST)
        if self.last_T is not None:
            share_T = torch.softmax(self.logits.value, dim=0)
            fall_T = self.last_T.log() - losses_T.log()
            self.logits.step(share_T * (fall_T - share_T @ fall_T))
        self.last_T = losses_T

    def state(self) -> dict[str, Any]:
        """The logits, Adam's moments, and the last losses."""
        last = None if self.last_T is None else self.last_T.tolist()
        return {"logits": self.logits.state(), "last": last}

    def restore(self, state: dict[str, Any]) -> None:
        """See `state`."""
        self.logits.restore(state["logits"])
        self.last_T = None if state["last"] is None else torch.tensor(state["last"], dtype=torch.float64)


class LearnedVector:
    """A small fp64 vector, from zero, under torch's Adam.

    Args:
        size: elements.
        lr: learning rate.
        weight_decay: Adam's (L2) penalty.
    """

    def __init__(self, size: int, lr: float, weight_decay: float = 0.0) -> None:
        self.value = torch.zeros(size, dtype=torch.float64)
        self.optimizer = torch.optim.Adam([self.value], lr=lr, weight_decay=weight_decay)

    def step(self, gradient: Tensor) -> None:
        """One step; one whose gradient is not finite is left out."""
        if bool(gradient.isfinite().all()):
            self.value.grad = gradient
            self.optimizer.step()

    def state(self) -> dict[str, Any]:
        """Value and moments as lists; Python's floats hold fp64 exactly."""
        moments = {key: torch.as_tensor(item).tolist() for key, item in self.optimizer.state[self.value].items()}
        return {"value": self.value.tolist(), "moments": moments}

    def restore(self, state: dict[str, Any]) -> None:
        """See `state`."""
        self.value.copy_(torch.tensor(state["value"], dtype=torch.float64))
        self.optimizer.state[self.value].update(
            {key: torch.tensor(item, dtype=torch.float32 if key == "step" else torch.float64)
             for key, item in state["moments"].items()}
        )  # fmt: skip


def _sum_to_count(weights_T: Tensor) -> Tensor:
    return weights_T * (len(weights_T) / weights_T.sum())


LOSS_METHODS: dict[str, type[LossWeighting]] = {
    "none": LossWeighting,
    "static": StaticWeighting,
    "random": RandomWeighting,
    "uncertainty": UncertaintyWeighting,
    "famo": FamoWeighting,
}
