"""The training streams of a run's tasks, and how many steps their passes take."""

from __future__ import annotations

import math

from ufo_ds.assembly import shards_folder
from ufo_ds.data.remote import check_room
from ufo_ds.data.schema import TaskMeta
from ufo_ds.data.shards import open_shards
from ufo_ds.data.stream import TaskStream, make_order
from ufo_ds.distributed import Ranks
from ufo_ds.recipe import Recipe
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
    streams = {}
    folder = shards_folder(recipe)
    sets = {name: open_shards(folder, name, "train", meta) for name, meta in metas.items()}
    balanced = {name: getattr(getattr(recipe.tasks, name), "balanced", False) for name in sets}
    check_room([(shards, None if balanced[name] else recipe.data.window) for name, shards in sets.items()])
    for name, shards in sets.items():
        task, config, meta = get_task(name), getattr(recipe.tasks, name), metas[name]
        order = make_order(shards, name, recipe.seed, recipe.data.window, balanced[name])
        streams[name] = TaskStream(
            shards,
            task.train_transform(config, meta),
            task.collate,
            order,
            batch=config.batch,
            rank=ranks.rank,
            world=ranks.world,
            seed=recipe.seed,
            start_step=start_step,
            workers=recipe.data.workers,
        )
    return streams
