"""The optimizer, its schedule, and the loop."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass
class OptimizerConfig:
    """AdamW and its schedule."""

    lr: float = 1e-4
    """Peak learning rate of the trunk's last block."""
    head_lr_scale: float = 1.0
    """Factor on `lr` for the heads."""
    weight_decay: float = 1e-4
    """Decoupled weight decay; none on biases, norms and position embeddings."""
    betas: tuple[float, float] = (0.9, 0.999)
    """Adam's moment decay rates."""
    layer_decay: float = 1.0
    """Factor on `lr` from each block of the trunk to the one below."""
    warmup_steps: int = 200
    """Steps of linear warm-up."""
    min_lr_scale: float = 0.01
    """Share of `lr` at the end of the cosine."""


@dataclass
class TrainConfig:
    """The loop."""

    steps: int | None = 52_000
    """Optimizer steps; each takes one batch of every task on every rank. null: as `epochs` says."""
    epochs: float = 10.0
    """Where `steps` is null: passes over the task that takes the most steps a pass."""
    precision: Literal["fp32", "bf16"] = "bf16"
    """`bf16`: bf16 arithmetic on fp32 weights (DeepSpeed's `torch_autocast`); boxes and their losses stay fp32."""
    exact_reduce: bool = True
    """With `bf16`: reduce gradients over the ranks in fp32 (exact) instead of bf16 (half the traffic)."""
    accumulate: int = 1
    """Micro-batches of `tasks.<task>.batch` images that each task takes a step, one after another."""
    close_augment: float = 0.0
    """Share of the steps, at the end, that train without strong augmentation (the keys in `ufo_ds/recipe/plain.py`)."""
    clip: float = 0.0
    """Largest norm of the combined gradient over all parameters; 0 does not clip."""
    eval_every: int = 2_000
    """Steps between evaluations on val; the last step always evaluates. 0: only the last."""
    eval_images: int | None = None
    """Evaluate on the first so many val images of each task; null: all."""
    checkpoint_every: int = 2_000
    """Steps between checkpoints; the last step always writes one. 0: only the last."""
    keep_checkpoints: int = 2
    """How many of the newest checkpoints are kept."""
    ema: float = 0.0
    """Decay a step of an exponential moving average of the weights, e.g. 0.9998. The average is what is evaluated and
    what `RUN/weights` holds. 0: none."""
    max_skipped: int = 10
    """A task whose loss or gradient is not finite is left out of that step; so many steps in a row end the run."""
    gallery: int = 6
    """Val pictures a task in the report."""
    threads: int | None = None
    """CPU threads a rank; null: the cores divided by the ranks on this machine."""
