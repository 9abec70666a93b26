"""How the task gradients on the shared trunk are combined."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

SurgeryMethod = Literal[
    "none", "pcgrad", "gradvac", "mgda", "imtl_g", "aligned_mtl", "cagrad", "upgrad", "dualproj", "nash_mtl",
    "tbgc", "static", "random", "uncertainty", "famo",
]  # fmt: skip


@dataclass
class SurgeryConfig:
    """How the task gradients on the shared trunk are combined; docs/surgery.md says which method to pick."""

    method: SurgeryMethod = "pcgrad"
    """On the gradients: `pcgrad` (arXiv 2001.06782), `gradvac` (2010.05874), `mgda` (1810.04650), `imtl_g` (ICLR 2021),
    `aligned_mtl` (2305.19000), `cagrad` (2110.14048), `upgrad` and `dualproj` (2406.16232), `nash_mtl` (2202.01017),
    `tbgc` (2307.03465). On the losses: `none` (plain sum), `static` (fixed weights), `random` (2111.10603),
    `uncertainty` (1705.07115), `famo` (2306.03792). All give ones where gradients are orthogonal and of equal norm."""
    every: int = 1
    """Steps between two Gram matrices; in between, the weights stay and no gradients are kept apart. 0: never, for
    the methods on the losses, which use it for the log alone."""
    scope: Literal["trunk", "block"] = "trunk"
    """`trunk`: one Gram matrix and one set of weights; `block`: one for each block of the trunk."""
    log_blocks: bool = False
    """Log cosines and norms for each block of the trunk."""
    self_test: bool = True
    """Compare DeepSpeed's gradient partitions with plain autograd before the first step; a mismatch stops the run."""
    task_clip: float = 0.0
    """Largest norm of each task's own gradient on the trunk (under `scope: block`: on each block), before the method
    combines them; 0 does not clip. The methods on the losses take it with `every: 1` alone."""
    static_weights: dict[str, float] = field(default_factory=dict)
    """`static`: a positive weight for each task; only their ratios count."""
    gradvac_beta: float = 0.5
    """`gradvac`: how fast the target cosines follow, 0..1."""
    cagrad_c: float = 0.4
    """`cagrad`: radius of the ball around the mean gradient, as a share of its norm."""
    aligned_scale: Literal["min", "median", "rmse"] = "min"
    """`aligned_mtl`: which singular value all are brought to."""
    tbgc_clip: float = 0.0
    """`tbgc`: `task_clip` under the name it had when this method alone could clip; the smaller of the two counts."""
    uncertainty_lr: float = 0.01
    """`uncertainty`: Adam's learning rate for the log-variances."""
    famo_lr: float = 0.025
    """`famo`: Adam's learning rate for the logits."""
