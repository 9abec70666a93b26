"""Weights from the Gram matrix of the task gradients. The methods are TorchJD's (torchjd.org) wherever it has them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ufo_ds.errors import UserError
from ufo_ds.recipe import SurgeryConfig
from ufo_ds.surgery.weighting import SolverError, drawn

ABSENT = 1e-24
"""A task whose squared gradient norm is below this share of the largest one counts as having no gradient."""

NEWTON_STEPS = 200


@dataclass(frozen=True)
class GramMethod:
    """A method on the Gram matrix.

    Attributes:
        make: (config, T) -> the published weighting, a function of the matrix.
        unit: (T, config) -> the factor that brings it to the common scale.
    """

    make: Callable[[SurgeryConfig, int], Callable[[Tensor], Tensor]]
    unit: Callable[[int, SurgeryConfig], float]


def _torchjd(name: str, *keys: str, **fixed: Any) -> Callable[[SurgeryConfig, int], Callable[[Tensor], Tensor]]:
    """TorchJD's class `name`; `keys` are `argument=recipe key` pairs."""

    def make(config: SurgeryConfig, count: int) -> Callable[[Tensor], Tensor]:
        import torchjd.aggregation as library

        options = {argument: getattr(config, key) for argument, key in (pair.split("=") for pair in keys)}
        try:
            return getattr(library, name)(**options, **fixed)
        except ImportError as error:
            raise UserError(
                f"key 'surgery.method' is {config.method}, which needs a solver that is not installed ({error}); "
                "pip install 'ufo-ds[solvers]'"
            ) from None
        except ValueError as error:
            raise UserError(f"key 'surgery': {config.method}: {error}") from None

    return make


def _equal_norms(config: SurgeryConfig, count: int) -> Callable[[Tensor], Tensor]:
    """TBGC (arXiv 2307.03465): all gradients get one norm, their mean. Before that each may be clipped."""

    def weigh(gram_TT: Tensor) -> Tensor:
        norm_T = gram_TT.diagonal().sqrt()
        return norm_T.mean() / norm_T

    return weigh


def _nash(config: SurgeryConfig, count: int) -> Callable[[Tensor], Tensor]:
    """Nash-MTL (arXiv 2202.01017): the positive weights a with G a = 1 / a.

    That is the minimum of a^T G a / 2 - sum log a, which is convex and self-concordant, so damped Newton steps reach it
    from anywhere. TorchJD's solver, a sequence of cone programs after the official code, ends elsewhere for one random
    matrix in ten; where it does not, the two agree.
    """

    def weigh(gram_TT: Tensor) -> Tensor:
        # In units of each task's own norm the matrix is that of the cosines, whatever the norms. Opposed gradients
        # leave the bargain without a solution; a small stake of one's own gives it one.
        scale_T = gram_TT.diagonal().rsqrt()
        cosine_TT = gram_TT * scale_T[:, None] * scale_T[None]
        cosine_TT = cosine_TT + 1e-8 * torch.eye(len(cosine_TT), dtype=cosine_TT.dtype)
        weights_T = torch.ones_like(scale_T)
        for _ in range(NEWTON_STEPS):
            slope_T = cosine_TT @ weights_T - 1 / weights_T
            move_T = torch.linalg.solve(cosine_TT + torch.diag(weights_T**-2), slope_T)
            decrement = float((slope_T @ move_T).clamp(min=0).sqrt())
            weights_T = weights_T - move_T / (1 + decrement if decrement > 0.25 else 1)
            if decrement < 1e-7:  # Newton steps double the digits: this one was the last that counts.
                return weights_T * scale_T
        raise SolverError(f"no bargain within {NEWTON_STEPS} Newton steps")

    return weigh


def _mean(count: int, config: SurgeryConfig) -> float:
    return float(count)


def _sum(count: int, config: SurgeryConfig) -> float:
    return 1.0


GRAM_METHODS: dict[str, GramMethod] = {
    "pcgrad": GramMethod(_torchjd("PCGradWeighting"), _sum),
    "gradvac": GramMethod(_torchjd("GradVacWeighting", "beta=gradvac_beta"), _sum),
    "mgda": GramMethod(_torchjd("MGDAWeighting"), _mean),
    "imtl_g": GramMethod(_torchjd("IMTLGWeighting"), _mean),
    "aligned_mtl": GramMethod(_torchjd("AlignedMTLWeighting", "scale_mode=aligned_scale"), _mean),
    "cagrad": GramMethod(
        _torchjd("CAGradWeighting", "c=cagrad_c"), lambda count, config: count / (1.0 + config.cagrad_c)
    ),
    "upgrad": GramMethod(_torchjd("UPGradWeighting"), _mean),
    "dualproj": GramMethod(_torchjd("DualProjWeighting"), _mean),
    "tbgc": GramMethod(_equal_norms, _sum),
    "nash_mtl": GramMethod(_nash, _sum),
}
IN_UNITS = {"tbgc"}
"""Methods that need the norms as they are. For the others the matrix is brought to a mean diagonal of one, because
TorchJD's safeguards against division by zero are absolute numbers."""


class GramWeighting:
    """A method without a state.

    Args:
        config: the recipe's `surgery`.
        count: number of tasks T.
    """

    on_losses = False

    def __init__(self, config: SurgeryConfig, count: int) -> None:
        self.config, self.count = config, count
        self.method = GRAM_METHODS[config.method]
        self.published: Any = self.method.make(config, count)

    def weights(self, gram_TT: Tensor | None, draw: str) -> Tensor:
        """See `Weighting`. A task without a gradient does not take part; it gets the weight 1.

        Raises:
            SolverError: the matrix is not finite, or the method finds no finite weights for it.
        """
        assert gram_TT is not None
        gram_TT = gram_TT.double().cpu()
        if not bool(gram_TT.isfinite().all()):
            raise SolverError("the inner products of the gradients are not finite")
        weights_T = torch.ones(self.count, dtype=torch.float64)
        norms = gram_TT.diagonal()
        present = (norms > ABSENT * norms.max()).nonzero().flatten()
        if len(present):
            unit = self.method.unit(len(present), self.config)
            with drawn(draw), torch.no_grad():
                weights_T[present] = unit * self._solve(_at_scale(gram_TT, present, self.config.method), present)
        if not bool(weights_T.isfinite().all()):
            raise SolverError(f"{self.config.method} gave weights that are not finite")
        return weights_T

    def observe(self, losses_T: Tensor) -> None:
        """Nothing: the losses play no part."""

    def state(self) -> dict[str, Any]:
        """Nothing to keep."""
        return {}

    def restore(self, state: dict[str, Any]) -> None:
        """Nothing to take over."""

    def _solve(self, gram_PP: Tensor, present: Tensor) -> Tensor:
        """The published weights [P] of the tasks that are present."""
        try:
            return self.published(gram_PP)
        except (ArithmeticError, ValueError, RuntimeError) as error:  # LinAlgError is a RuntimeError
            raise SolverError(str(error)) from None


class GradVacWeighting(GramWeighting):
    """Gradient Vaccine (arXiv 2010.05874): remembers a target cosine for each ordered pair of tasks."""

    def __init__(self, config: SurgeryConfig, count: int) -> None:
        super().__init__(config, count)
        self.target_TT = torch.zeros(count, count, dtype=torch.float64)

    def state(self) -> dict[str, Any]:
        """The targets, [T][T]."""
        return {"target": self.target_TT.tolist()}

    def restore(self, state: dict[str, Any]) -> None:
        """See `state`."""
        self.target_TT = torch.tensor(state["target"], dtype=torch.float64)

    def _solve(self, gram_PP: Tensor, present: Tensor) -> Tensor:
        # TorchJD holds the targets of all its rows; ours are those of the tasks that are present.
        rows, columns = present[:, None], present[None]
        self.published._phi_t = self.target_TT[rows, columns].clone()
        self.published._state_key = (len(present), torch.float64)
        weights = super()._solve(gram_PP, present)
        self.target_TT[rows, columns] = self.published._phi_t
        return weights


def _at_scale(gram_TT: Tensor, present: Tensor, method: str) -> Tensor:
    gram_PP = gram_TT[present[:, None], present[None]]
    return gram_PP if method in IN_UNITS else gram_PP / gram_PP.diagonal().mean()
