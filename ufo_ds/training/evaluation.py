"""Evaluation on all ranks, merged exactly; predictions drawn beside the truth."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ufo_ds.assembly import average_score, shards_folder
from ufo_ds.data.decode import decode_image
from ufo_ds.data.schema import RawSample, TaskMeta
from ufo_ds.data.shards import ShardSet, open_shards
from ufo_ds.distributed import ObjectExchange
from ufo_ds.files import replace_file
from ufo_ds.model.joint import JointModel
from ufo_ds.prediction import predictions
from ufo_ds.recipe import PredictionConfig, Recipe
from ufo_ds.tasks import get_task


def open_split(recipe: Recipe, metas: Mapping[str, TaskMeta], split: str) -> dict[str, ShardSet]:
    """That split of every task which has it, with labels. A data set without one can be trained on all the same."""
    folder = shards_folder(recipe)
    return {
        name: open_shards(folder, name, split, meta)
        for name, meta in metas.items()
        if split in meta.splits and meta.splits[split].labelled
    }


class InterruptedEvaluationError(Exception):
    """The run is to stop: the evaluation was broken off, on all ranks."""


class Evaluator:
    """Scores a model on the labelled splits that there are.

    Args:
        recipe: of the run; its `prediction` counts only with `in_training`.
        metas: of the tasks.
        sets: the split of each task that is scored; see `open_split`.
        exchange: over the ranks.
        device: where the model is.
    """

    def __init__(
        self,
        recipe: Recipe,
        metas: Mapping[str, TaskMeta],
        sets: Mapping[str, ShardSet],
        exchange: ObjectExchange,
        device: torch.device,
    ) -> None:
        asked = recipe.prediction if recipe.prediction.in_training else PredictionConfig()
        self.recipe, self.metas, self.sets = replace(recipe, prediction=asked), metas, sets
        self.exchange, self.device = exchange, device

    def scores(
        self, model: JointModel, stop_asked: Callable[[], bool] = lambda: False
    ) -> tuple[dict[str, Any], dict[str, list[np.ndarray]]]:
        """Figures by task, with their `average`, on every rank; and pictures by task, on rank 0.

        Args:
            model: in training or evaluation mode, which it is left in.
            stop_asked: looked at after every image.

        Raises:
            InterruptedEvaluationError: on all ranks, where `stop_asked` said so on one.
        """
        was_training = model.training
        model.eval()
        scores: dict[str, Any] = {}
        pictures: dict[str, list[np.ndarray]] = {}
        try:
            for name in self.sets:
                scores[name], pictures[name] = self._score(model, name, stop_asked)
        finally:
            model.train(was_training)
        scores["average"] = average_score(scores)
        return scores, pictures

    def _score(
        self, model: JointModel, name: str, stop_asked: Callable[[], bool]
    ) -> tuple[dict[str, float], list[np.ndarray]]:
        task, meta, shards = get_task(name), self.metas[name], self.sets[name]
        metric = task.metric(meta)
        pictures: list[np.ndarray] = []
        wanted = self._chosen(len(shards)) if self.exchange.ranks.first else set()
        for index, raw, prediction in self._predictions(model, name):
            truth = task.truth(raw, meta)
            metric.update([prediction], [truth])
            if index in wanted:
                pictures.append(task.picture(decode_image(raw.image), truth, prediction, meta))
            if stop_asked():
                break
        states = self.exchange.gather(None if stop_asked() else metric.state())
        figures = None
        if states is not None and not any(state is None for state in states):
            whole = task.metric(meta)
            whole.merge(states)
            figures = whole.compute()
        figures = self.exchange.broadcast(figures)
        if figures is None:
            raise InterruptedEvaluationError
        return figures, pictures

    def _predictions(self, model: JointModel, name: str) -> Iterator[tuple[int, RawSample, Any]]:
        shards, ranks, count = self.sets[name], self.exchange.ranks, self._count(len(self.sets[name]))
        found = predictions(model, self.recipe, name, shards, self.metas[name], self.exchange, self.device, count)
        for index, prediction in zip(range(ranks.rank, count, ranks.world), found, strict=True):
            yield index, shards[index], prediction

    def _count(self, samples: int) -> int:
        return min(samples, self.recipe.train.eval_images or samples)

    def _chosen(self, samples: int) -> set[int]:
        """Indices of rank 0 that are drawn: spread over the split."""
        own = range(0, self._count(samples), self.exchange.ranks.world)
        spread = np.linspace(0, len(own) - 1, min(self.recipe.train.gallery, len(own))).round().astype(int)
        return {own[i] for i in spread}


def write_gallery(run_dir: Path, pictures: Mapping[str, list[np.ndarray]]) -> None:
    """Write the pictures to `RUN/gallery/<task>/`, in place of an earlier evaluation's."""
    import cv2

    for name, images in pictures.items():
        folder = run_dir / "gallery" / name
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        for number, image in enumerate(images):
            path = folder / f"{number:02d}.jpg"
            cv2.imwrite(str(path), cv2.cvtColor(image, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, 88])


def write_scores(run_dir: Path, step: int, scores: Mapping[str, Any], best: Mapping[str, Any]) -> None:
    """Write `RUN/scores.json`: the last evaluation and the best one."""
    text = json.dumps({"step": step, "val": scores, "best": best}, indent=1)
    replace_file(run_dir / "scores.json", text)
