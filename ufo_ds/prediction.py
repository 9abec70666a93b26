"""Predictions of a model on a split of shards, on several ranks, as one submission."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from tqdm import tqdm

from ufo_ds.assembly import load_model
from ufo_ds.command_line import override_section
from ufo_ds.data.batch import Batch
from ufo_ds.data.folders import LocalFolder, RemoteFolder, fingerprint
from ufo_ds.data.schema import RawSample, TaskMeta
from ufo_ds.data.shards import ShardSet, open_shards
from ufo_ds.data.stream import evaluation_batches
from ufo_ds.data.views import CollateViews, ViewBatch
from ufo_ds.distributed import ObjectExchange, find_device, find_ranks, limit_threads, start_gloo, stop
from ufo_ds.errors import UserError
from ufo_ds.model.joint import JointModel
from ufo_ds.recipe import PredictionConfig, Recipe
from ufo_ds.recipe.prediction import Views, is_plain
from ufo_ds.submission import write_submission
from ufo_ds.tasks import get_task
from ufo_ds.tasks.task import Task
from ufo_ds.workers import Workers

_PACKERS = 4
"""Processes at most beside a rank that turn masks into polygons: some 200 masks of a megapixel a second, each."""


def predict(
    weights: Path,
    folder: LocalFolder | RemoteFolder,
    split: str,
    out: Path,
    *,
    tasks: list[str] | None = None,
    workers: int = 2,
    as_objects: bool = False,
    threads: int | None = None,
    plain: bool = False,
    views: dict[str, Any] | None = None,
) -> None:
    """Predict every task that both the weights and the shards have, and write the submission from rank 0.

    Args:
        weights: a run, an export, or a folder of weights.
        folder: what `shards/build.py` wrote; see `open_folder`.
        split: `test`, or any other.
        out: the JSON, written atomically at the end.
        tasks: only these; None: all there are.
        workers: reader processes a rank.
        as_objects: `cls` and `seg` as objects instead of the official lists of single-key objects.
        threads: CPU threads a rank.
        plain: ask as the training's evaluation does, whatever the weights' section `prediction` says.
        views: keys of `prediction` (nested) that override that.

    Raises:
        UserError: no weights, no task in common, a sample that cannot be decoded.
    """
    ranks = find_ranks()
    threads = limit_threads(ranks, threads)
    model, recipe, metas = load_model(weights)
    recipe.prediction = override_section(PredictionConfig() if plain else recipe.prediction, "prediction", views or {})
    sets = _common_tasks(model, metas, folder, split, tasks, verbose=ranks.first)
    out.parent.mkdir(parents=True, exist_ok=True)
    start_gloo(ranks)
    exchange, device = ObjectExchange(ranks), find_device(ranks)
    prints = {name: fingerprint(shards.meta) for name, shards in sets.items()}
    exchange.require_same(prints, f"the shards of {folder}")
    model.to(device)
    recipe.data.workers = workers
    sections: dict[str, Any] = {}
    for name, shards in sets.items():
        task = get_task(name)
        found = predictions(model, recipe, name, shards, metas[name], exchange, device)
        with Workers(min(threads, _PACKERS) if task.pack else 1) as pool:
            packed = pool.stream(task.pack, found) if task.pack else found
            entries = [task.write_section([prediction]) for prediction in packed]
        gathered = exchange.gather(entries)
        if gathered is not None:
            sections[task.section] = [
                entry
                for sample in range(len(shards))
                for entry in gathered[sample % ranks.world][sample // ranks.world]
            ]
    if ranks.first:
        write_submission(out, sections, as_objects=as_objects)
        counts = ", ".join(f"{name} {len(shards)}" for name, shards in sets.items())
        print(f"{out}: {counts} images of {split}")
    exchange.barrier()
    stop()


def predictions(
    model: JointModel,
    recipe: Recipe,
    name: str,
    shards: ShardSet,
    meta: TaskMeta,
    exchange: ObjectExchange,
    device: torch.device,
    limit: int | None = None,
    progress: bool = True,
):
    """This rank's predictions on a split, one by one: samples rank, rank + world, ... in order.

    Args:
        model: in evaluation mode, on `device`.
        recipe: its task settings, `prediction`, `data.workers` and `train.precision` count.
        name: of the task.
        shards: the split.
        meta: the classes of the model.
        exchange: over the ranks.
        device: of the model.
        limit: only the first so many samples; None: all.
        progress: whether rank 0 shows a bar.
    """
    task, config, ranks = get_task(name), getattr(recipe.tasks, name), exchange.ranks
    asked = _ask(model, task, config, getattr(recipe.prediction, name), meta)
    batches = evaluation_batches(
        shards,
        asked.transform,
        asked.collate,
        batch=asked.samples,
        rank=ranks.rank,
        world=ranks.world,
        workers=recipe.data.workers,
        limit=limit,
    )
    count = len(range(ranks.rank, min(len(shards), limit or len(shards)), ranks.world))
    shown = progress and ranks.first and sys.stderr.isatty()
    with tqdm(total=count, desc=f"predict {name}", unit="image", disable=not shown, leave=False) as bar:
        for batch in batches:
            with torch.autocast(device.type, dtype=torch.bfloat16, enabled=recipe.train.precision == "bf16"):
                found = asked.predict(batch.to(device))
            bar.update(len(found))
            yield from found


@dataclass
class _Asked:
    """How a task's samples become inputs, `samples` a batch, and a batch predictions."""

    transform: Callable[[RawSample], Any]
    collate: Callable[[Sequence[Any]], Batch | ViewBatch]
    samples: int
    predict: Callable[[Any], list[Any]]


def _ask(model: JointModel, task: Task, config: Any, views: Views, meta: TaskMeta) -> _Asked:
    if is_plain(views):
        return _Asked(task.eval_transform(config, meta), task.collate, config.batch, model.predict)
    # The tiles of one picture are many inputs: together with those of others they would crowd the readers' memory.
    samples = 1 if getattr(views, "tiles", None) else config.batch
    transform = task.view_transform(config, views, meta)
    return _Asked(
        transform, CollateViews(task.collate, config.batch), samples, partial(model.predict_views, config=views)
    )


def _common_tasks(
    model: JointModel,
    metas: dict[str, TaskMeta],
    root: LocalFolder | RemoteFolder,
    split: str,
    wanted: list[str] | None,
    verbose: bool,
) -> dict[str, ShardSet]:
    for name in wanted or ():
        if name not in metas:
            raise UserError(f"--tasks: the weights have no head for '{name}', only {', '.join(metas)}")
    sets = {}
    for name in wanted or metas:
        if not wanted and not root.is_built(name):
            _say(verbose, f"note: no {name} shards in {root}: not predicted")
            continue
        meta = root.read_meta(name)
        if not wanted and split not in meta.splits:
            _say(verbose, f"note: the {name} shards have no split '{split}': not predicted")
            continue
        if meta.class_ids != metas[name].class_ids:
            _say(
                verbose,
                f"warning: the {name} shards speak of {meta.num_classes} classes, the weights of "
                f"{metas[name].num_classes}; the submission uses those of the weights",
            )
        sets[name] = open_shards(root, name, split, meta)
    if not sets:
        raise UserError(
            f"{root}: none of the weights' tasks ({', '.join(metas)}) has a split '{split}' here; build the "
            "shards with shards/build.py, or name another --split"
        )
    return sets


def _say(verbose: bool, text: str) -> None:
    if verbose:
        print(text, file=sys.stderr)
