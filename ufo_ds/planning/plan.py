"""What a recipe needs on so many ranks: parameters, memory, traffic, arithmetic, passes over the data."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch._subclasses.fake_tensor import FakeTensorMode

from ufo_ds.assembly import count_parameters, read_metas
from ufo_ds.data.schema import ClassInfo, TaskMeta
from ufo_ds.model.joint import JointModel
from ufo_ds.model.trunk import Trunk
from ufo_ds.planning.activations import MicroBatchCost, fake_model, micro_batch_cost
from ufo_ds.planning.memory import Engine, Sizes, at_the_peak, held, traffic, zero_settings
from ufo_ds.recipe import Recipe
from ufo_ds.training.batches import fit_batches
from ufo_ds.training.engine_config import engine_config, offload_device
from ufo_ds.training.streams import steps_of

TRACK1_CLASSES = {"cls": 196, "det": 45, "seg": 19}
"""Of the challenge: what is planned with where no shards are given."""


@dataclass(frozen=True)
class TaskPlan:
    """A task's share.

    Attributes:
        cost: of its micro-batch.
        samples: of its train split; None without shards.
        shards: of its train split; None likewise.
        images: a step, over all ranks.
    """

    cost: MicroBatchCost
    samples: int | None
    shards: int | None
    images: int


@dataclass(frozen=True)
class Plan:
    """A recipe's needs. Bytes are those of one rank.

    Attributes:
        sizes: numbers of parameters.
        engine: the settings that count.
        held: bytes between two steps, by part.
        moment: when most is needed.
        peak: bytes that come to `held` then, by part.
        traffic: bytes sent in a step, by purpose.
        tasks: by name, in the order of the steps.
        steps: of the run; None where only its epochs are known, without shards.
    """

    sizes: Sizes
    engine: Engine
    held: dict[str, int]
    moment: str
    peak: dict[str, int]
    traffic: dict[str, int]
    tasks: dict[str, TaskPlan]
    steps: int | None

    @property
    def bytes_at_peak(self) -> int:
        """Of all parts."""
        return sum(self.held.values()) + sum(self.peak.values())

    @property
    def flops(self) -> int:
        """A step's, on one rank."""
        return sum(task.cost.flops for task in self.tasks.values()) * self.engine.accumulate


def make_plan(recipe: Recipe, ranks: int, say: Callable[[str], None] = lambda text: None) -> Plan:
    """Plan a recipe; `data.shards` may be missing, then the classes are Track 1's and the passes stay open.

    Args:
        recipe: checked.
        ranks: GPUs.
        say: told what is being done, as it takes a while for large models, and where batches are lowered.

    Raises:
        UserError: whatever a run would refuse before its first step.
    """
    metas = read_metas(recipe) if recipe.data.shards else _challenge(recipe)
    if recipe.data.shards:
        for note in fit_batches(recipe, metas, ranks):
            say(f"note: {note}")
    settings = engine_config(recipe, list(metas))
    say("building the model without its numbers ...")
    fake = FakeTensorMode(allow_non_fake_inputs=True)
    model = fake_model(recipe, metas, fake)
    sizes = _sizes(recipe, model)
    bucket, overlap = zero_settings(settings)
    offload = offload_device(settings) == "cpu"
    engine = Engine(
        ranks=ranks,
        bucket=bucket,
        overlap=overlap,
        offload=offload,
        apart=recipe.surgery.every > 0,
        average=recipe.train.ema > 0,
        accumulate=recipe.train.accumulate,
        exact=recipe.train.precision == "fp32" or recipe.train.exact_reduce,
        fused=torch.cuda.is_available() or recipe.train.precision == "bf16",
    )
    costs = {}
    for name in metas:
        say(f"one micro-batch of {name} ...")
        costs[name] = micro_batch_cost(model, recipe, name, fake)
    moment, peak = at_the_peak(sizes, engine, {name: cost.peak for name, cost in costs.items()})
    blocks = 0 if not engine.apart else len(model.trunk.vit.blocks) + 2 if recipe.surgery.scope == "block" else 1
    return Plan(
        sizes,
        engine,
        held(sizes, engine),
        moment,
        peak,
        traffic(sizes, engine, len(metas), blocks),
        {name: _task_plan(recipe, name, meta, costs[name], ranks) for name, meta in metas.items()},
        recipe.train.steps or (steps_of(recipe, metas, ranks) if recipe.data.shards else None),
    )


def _sizes(recipe: Recipe, model: JointModel) -> Sizes:
    """Parameters that all tasks share, and each task's own: its head and its copies of blocks."""
    with torch.device("meta"):
        trunk = Trunk(recipe.model.bare(), list(model.heads), recipe.trunk)
    own = sum(parameter.numel() for parameter in trunk.own_parameters())
    heads = {name: count_parameters(head) + own // len(model.heads) for name, head in model.heads.items()}
    idle = sum(count_parameters(part.module.own[trunk.tasks[0]]) for part in trunk.routing.learned)
    return Sizes(count_parameters(trunk) - own, heads, idle)


def _challenge(recipe: Recipe) -> dict[str, TaskMeta]:
    names = recipe.tasks.names or list(TRACK1_CLASSES)
    return {
        name: TaskMeta(name, "planned", [ClassInfo(number, f"class {number}") for number in range(count)], {})
        for name, count in TRACK1_CLASSES.items()
        if name in names
    }


def _task_plan(recipe: Recipe, name: str, meta: TaskMeta, cost: MicroBatchCost, ranks: int) -> TaskPlan:
    split = meta.splits.get("train")
    images = getattr(recipe.tasks, name).batch * ranks * recipe.train.accumulate
    return TaskPlan(cost, split.samples if split else None, len(split.shards) if split else None, images)
