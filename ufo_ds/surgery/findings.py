"""What one combination of task gradients saw and did."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import combinations
from typing import Any

import torch
from torch import Tensor


@dataclass
class Findings:
    """The figures of a step.

    Attributes:
        tasks: their names, in the order of the rows below.
        weights: of the task gradients, fp64 [S, T]; S is 1, or the number of blocks under `scope: block`.
        grams: inner products of the task gradients, over all ranks, fp64 [B, T, T], one matrix a block; None in a
            step without a Gram matrix.
        blocks: names of the B blocks, in the order of depth; empty where there is one matrix for the whole trunk.
        failed: whether a method found no weights, so that the plain sum was taken.
        skipped: tasks whose loss or gradient was not finite; the step was taken without them.
        clip: factors of `surgery.task_clip` on the task gradients, fp64 [S, T], at most 1; None where it is off, or in
            a step without a Gram matrix. `weights` have them in, `grams` have not.
    """

    tasks: list[str]
    weights: Tensor
    grams: Tensor | None = None
    blocks: list[str] = field(default_factory=list)
    failed: bool = False
    skipped: list[str] = field(default_factory=list)
    clip: Tensor | None = None

    @property
    def empty(self) -> bool:
        """Whether no task is left, so that there is no gradient to take a step with."""
        return len(self.skipped) == len(self.tasks)

    @property
    def gram(self) -> Tensor:
        """Inner products over the whole trunk, fp64 [T, T]."""
        assert self.grams is not None, "no Gram matrix in this step"
        return self.grams.sum(0)

    def as_record(self) -> dict[str, Any]:
        """The figures for the log (docs/design.md, Log)."""
        taken_T = torch.tensor([task not in self.skipped for task in self.tasks])
        record: dict[str, Any] = {"tasks": self.tasks, "weights": (self.weights.mean(0) * taken_T).tolist()}
        if self.failed:
            record["solver_failed"] = True
        if self.skipped:
            record["skipped"] = self.skipped
        if self.grams is None:
            return record
        norm_T, cosine_TT = norms_and_cosines(self.gram)
        positive = norm_T[norm_T > 0]
        record |= {
            "grad_norm": {
                task: None if task in self.skipped else norm
                for task, norm in zip(self.tasks, norm_T.tolist(), strict=True)
            },
            "norm_ratio": float(positive.max() / positive.min()) if len(positive) > 1 else None,
            "cosine": cosine_TT.tolist(),
            "conflicts": conflict_rate(cosine_TT),
        }
        if self.clip is not None:
            record["clip"] = dict(zip(self.tasks, self.clip.mean(0).tolist(), strict=True))
        if self.blocks:
            record["blocks"] = self._by_block()
        return record

    def _by_block(self) -> dict[str, Any]:
        assert self.grams is not None
        pairs = list(combinations(range(len(self.tasks)), 2))
        figures = [norms_and_cosines(gram_TT) for gram_TT in self.grams]
        found: dict[str, Any] = {
            "names": self.blocks,
            "pairs": [f"{self.tasks[i]}-{self.tasks[j]}" for i, j in pairs],
            "cosine": [[float(cosine_TT[i, j]) for i, j in pairs] for _, cosine_TT in figures],
            "conflicts": [conflict_rate(cosine_TT) for _, cosine_TT in figures],
            "grad_norm": {task: [float(norm_T[t]) for norm_T, _ in figures] for t, task in enumerate(self.tasks)},
        }
        if len(self.weights) > 1:
            found["weights"] = self.weights.tolist()
        return found


def norms_and_cosines(gram_TT: Tensor) -> tuple[Tensor, Tensor]:
    """Norms [T] and cosines [T, T] from a Gram matrix; a cosine with a zero gradient is 0."""
    norm_T = gram_TT.diagonal().clamp(min=0).sqrt()
    cosine_TT = gram_TT / (norm_T[:, None] * norm_T[None]).clamp(min=torch.finfo(torch.float64).tiny)
    return norm_T, cosine_TT


def conflict_rate(cosine_TT: Tensor) -> float:
    """Share of the pairs of tasks whose cosine is negative."""
    pairs: Sequence[tuple[int, int]] = list(combinations(range(len(cosine_TT)), 2))
    return sum(float(cosine_TT[i, j]) < 0 for i, j in pairs) / len(pairs) if pairs else 0.0
