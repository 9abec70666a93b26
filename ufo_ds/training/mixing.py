"""Mixing of training batches on the device, as far as tasks have one."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Mapping

import torch

from ufo_ds.data.batch import Batch
from ufo_ds.data.schema import TaskMeta
from ufo_ds.recipe import Recipe
from ufo_ds.recipe.plain import closing_step
from ufo_ds.tasks import get_task


class Mixer:
    """Mixes the batches of a run, each by chance of its own: a function of (seed, rank, task, number of the batch).

    The training's own generator is left as it was, so that drop-path and dropout do not depend on what is mixed.

    Args:
        recipe: of the run.
        metas: of its tasks.
        rank: of this process.
    """

    def __init__(self, recipe: Recipe, metas: Mapping[str, TaskMeta], rank: int) -> None:
        self.recipe, self.rank = recipe, rank
        self._mixings: dict[str, Callable[[Batch], Batch]] = {}
        for name, meta in metas.items():
            make = get_task(name).mixing
            mixing = make(getattr(recipe.tasks, name), meta) if make else None
            if mixing:
                self._mixings[name] = mixing

    def __call__(self, batch: Batch, number: int) -> Batch:
        """The batch `number` (from 0) of its task's stream, mixed; as it came in the closing steps of the run."""
        mixing = self._mixings.get(batch.task)
        if mixing is None or number >= self._strong_batches():
            return batch
        with torch.random.fork_rng(devices=[]):
            name = f"mix {self.recipe.seed} {self.rank} {batch.task} {number}"
            torch.default_generator.manual_seed(zlib.crc32(name.encode()))
            return mixing(batch)

    def _strong_batches(self) -> int:
        return closing_step(self.recipe.train) * self.recipe.train.accumulate
