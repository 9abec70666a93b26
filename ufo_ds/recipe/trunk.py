"""How tasks part inside the trunk, and how much of it a step trains."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal


@dataclass
class TaskBlocksConfig:
    """Blocks of the trunk in which tasks part (VIMER-UFO, arXiv 2207.10341). docs/routing.md says what it costs.

    `shared`: one for all tasks. `specific`: a copy for each task. `learned`: both, and each task learns which to take.
    """

    blocks: list[int] | str = "none"
    """Which blocks: `none`, `all`, `last:N`, `every:N` (the last of each N), or numbers from 0, e.g. `[8, 10]`."""
    ffn: Literal["shared", "specific", "learned"] = "specific"
    """The feed-forward network of those blocks."""
    norm: Literal["shared", "specific"] = "shared"
    """Both norms of those blocks, of the attention and of the FFN."""
    attention: Literal["shared", "specific", "learned"] = "shared"
    """The attention of those blocks."""


@dataclass
class ElasticConfig:
    """Training of smaller trunks inside the whole one: each step draws a size, the same on all ranks and for all tasks,
    and trains the leading blocks, heads and hidden units of that size. Evaluation takes the whole trunk.
    """

    depth: list[int] = field(default_factory=list)
    """Numbers of leading blocks to draw from, each at least `model.depths`; empty: always all."""
    heads: list[int] = field(default_factory=list)
    """Numbers of leading attention heads to draw from; empty: always all."""
    mlp: list[float] = field(default_factory=list)
    """Shares of the FFNs' hidden units to draw from, in (0, 1]; empty: always all."""
    full: float = 0.5
    """Share of the steps that train the whole trunk, in (0, 1]."""


@dataclass(frozen=True)
class Width:
    """A size of the trunk."""

    depth: int | None = None
    """Leading blocks; null: all."""
    heads: int | None = None
    """Leading attention heads of each block; null: all."""
    mlp: float | None = None
    """Share of the hidden units of each FFN, the leading ones; null: all."""

    def as_choices(self) -> ElasticConfig:
        """This size as the only one to draw from."""
        one = {name: [] if value is None else [value] for name, value in vars(self).items()}
        return ElasticConfig(**one)


@dataclass
class TrunkConfig:
    """Routing of tasks through the trunk, and elastic training of it."""

    task_blocks: TaskBlocksConfig = field(default_factory=TaskBlocksConfig)
    """Blocks in which tasks part."""
    temperature: tuple[float, float] = (2.0, 0.5)
    """`learned`: temperature of the Gumbel-softmax in the first and in the last step, geometric in between."""
    logits_lr_scale: float = 10.0
    """`learned`: factor on the block's learning rate for the logits. AdamW moves a number by at most about the learning
    rate a step, too little for a logit."""
    elastic: ElasticConfig = field(default_factory=ElasticConfig)
    """Smaller trunks inside the whole one."""
    sliced: Width = field(default_factory=Width)
    """The trunk is cut to this size for good. Exports set it; with pretrained weights, their leading part is taken."""
    multiple: int = 1
    """Pixels that the input's sides are padded to a multiple of, beside what patch and heads ask for. Exports of one
    task set it to what the joint model padded to."""
