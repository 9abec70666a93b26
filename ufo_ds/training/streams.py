"""The training streams of a run's tasks, and how many steps their passes take."""

from __future__ import annotations

import math
from typing import Any

from ufo_ds.assembly import shards_folder
from ufo_ds.data.remote import DRAWS_FROM_ALL, check_room
from ufo_ds.data.schema import TaskMeta
from ufo_ds.data.shards import ShardSet, open_shards
from ufo_ds.data.stream import TaskStream, Transform, make_order
from ufo_ds.distributed import Ranks
from ufo_ds.recipe import Recipe
from ufo_ds.recipe.plain import closing_step, plain
from ufo_ds.tasks import get_task


def steps_of(recipe: Recipe, metas: dict[str, TaskMeta], world: int) -> int:
    """Steps of `train.epochs` passes over the task that needs the most."""
    ranks = world * recipe.train.accumulate
    a_pass = [
        meta.splits["train"].samples / (ranks * getattr(recipe.tasks, name).batch) for name, meta in metas.items()
    ]
    return max(1, math.ceil(recipe.train.epochs * max(a_pass)))


def make_streams(recipe: Recipe, metas: dict[str, TaskMeta], ranks: Ranks, start_step: int) -> dict[str, TaskStream]:
    """A stream of each task, from the micro-batch `start_step` on. Raises `UserError`."""
    folder = shards_folder(recipe)
    sets = {name: open_shards(folder, name, "train", meta) for name, meta in metas.items()}
    windows = {name: None if _draws_from_all(recipe, name) else recipe.data.window for name in sets}
    check_room([(shards, windows[name]) for name, shards in sets.items()])
    return {name: _make_stream(recipe, shards, ranks, start_step) for name, shards in sets.items()}


def _make_stream(recipe: Recipe, shards: ShardSet, ranks: Ranks, start_step: int) -> TaskStream:
    name, meta = shards.task, shards.meta
    task, config, everywhere = get_task(name), getattr(recipe.tasks, name), _draws_from_all(recipe, name)
    balance = everywhere and getattr(config, "balanced", False)
    order = make_order(shards, name, recipe.seed, recipe.data.window, balance, everywhere)
    closing = None
    if recipe.train.close_augment:
        closing = closing_step(recipe.train) * recipe.train.accumulate, task.train_transform(plain(config), meta)
    return TaskStream(
        shards,
        make_transform(config, shards),
        task.collate,
        order,
        batch=config.batch,
        rank=ranks.rank,
        world=ranks.world,
        seed=recipe.seed,
        start_step=start_step,
        workers=recipe.data.workers,
        closing=closing,
    )


def make_transform(config: Any, shards: ShardSet) -> Transform:
    """A task's training transform, with what it needs to know of the split. Raises `UserError`."""
    transform = get_task(shards.task).train_transform(config, shards.meta)
    if hasattr(transform, "survey"):
        transform.survey(shards)
    return transform


def _draws_from_all(recipe: Recipe, name: str) -> bool:
    """Whether samples of any shard may be needed at any time."""
    return bool(getattr(getattr(recipe.tasks, name), DRAWS_FROM_ALL.get(name, ""), False))
