"""The images that an export is compared on: a split of shards, or noise."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ufo_ds.data.folders import LocalFolder, RemoteFolder
from ufo_ds.data.schema import TaskMeta
from ufo_ds.data.shards import open_shards
from ufo_ds.data.stream import evaluation_batches
from ufo_ds.errors import UserError
from ufo_ds.recipe import Recipe
from ufo_ds.tasks import get_task


@dataclass(frozen=True)
class Images:
    """Images at one size.

    Attributes:
        pixels: uint8 [N, 3, H, W].
        what: in words.
    """

    pixels: Tensor
    what: str


@dataclass(frozen=True)
class ImageSource:
    """Where the images come from.

    Attributes:
        folder: of shards; None: noise.
        split: of the shards.
        count: images a task.
    """

    folder: LocalFolder | RemoteFolder | None = None
    split: str = "val"
    count: int = 4

    def take(self, task: str, recipe: Recipe, meta: TaskMeta) -> Images:
        """The first images of the split, as prediction sees them; noise where there is no folder.

        Of images that keep their own size (seg without `eval_size`) those of the first one's size are taken.

        Raises:
            UserError: no shards of the task, no such split, an empty one, or an image that cannot be decoded.
        """
        if self.folder is None:
            return _noise(task, recipe, self.count)
        one, config = get_task(task), getattr(recipe.tasks, task)
        shards = open_shards(self.folder, task, self.split)
        batches = evaluation_batches(shards, one.eval_transform(config, meta), one.collate, batch=1, limit=self.count)
        found = [batch.images for batch in batches]
        if not found:
            raise UserError(f"{self.folder}: the {task} split '{self.split}' is empty; name another --split")
        alike = [images for images in found if images.shape == found[0].shape]
        passed = f", {len(found) - len(alike)} of another size passed over" if len(alike) < len(found) else ""
        return Images(torch.cat(alike), f"{len(alike)} images of {self.split}{passed}")


def _noise(task: str, recipe: Recipe, count: int) -> Images:
    height, width = resolution(task, recipe)
    generator = torch.Generator().manual_seed(0)
    pixels = torch.randint(0, 256, (count, 3, height, width), dtype=torch.uint8, generator=generator)
    return Images(pixels, f"{count} images of noise, not real ones (no --shards)")


def resolution(task: str, recipe: Recipe) -> tuple[int, int]:
    """(height, width) in pixels that a task predicts at; for seg without `eval_size` that of its training crops."""
    config = getattr(recipe.tasks, task)
    return config.size if task != "seg" else config.eval_size or config.crop
