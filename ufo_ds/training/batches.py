"""Batches that a small data set can fill."""

from __future__ import annotations

from collections.abc import Mapping

from ufo_ds.data.schema import TaskMeta
from ufo_ds.recipe import Recipe


def fit_batches(recipe: Recipe, metas: Mapping[str, TaskMeta], world: int) -> list[str]:
    """Lower, in the recipe, the batch of each task that has fewer training images than a step would take.

    A sample that stood in a batch several times would cost as much as another one and teach nothing. With fewer images
    than ranks the batch is 1, and the ranks go round; a single image cannot be mixed with others of its batch.

    Returns:
        A line for each task that is concerned.
    """
    notes = []
    for name, meta in metas.items():
        config, samples = getattr(recipe.tasks, name), meta.splits["train"].samples
        batch = min(config.batch, max(1, samples // world))
        if batch < config.batch:
            notes.append(f"{name}: {samples} training images are fewer than a step's {config.batch} on each of {world} "
                         f"rank(s); tasks.{name}.batch is {batch} in this run")  # fmt: skip
            config.batch = batch
            mixed = [key for key in ("mixup", "cutmix") if getattr(config, key, 0)] if batch == 1 else []
            for key in mixed:
                setattr(config, key, 0.0)
            if mixed:
                notes.append(f"{name}: a batch of 1 is not mixed: {' and '.join(mixed)} 0 in this run")
    return notes
