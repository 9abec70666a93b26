"""Checkpoints to resume from: written aside and renamed, so that a crash never costs the last good one."""

from __future__ import annotations

import dataclasses
import json
import shutil
from pathlib import Path
from typing import Any

from ufo_ds.distributed import ObjectExchange
from ufo_ds.errors import UserError
from ufo_ds.recipe import Recipe

# Keys that may differ between the two halves of a run: where things are, how often, how many processes.
FREE = {
    "tracking",
    "data.shards",
    "data.workers",
    "train.steps",
    "train.eval_every",
    "train.eval_images",
    "train.checkpoint_every",
    "train.keep_checkpoints",
    "train.gallery",
    "train.threads",
    "deepspeed",
    "surgery.self_test",
    "model.pretrained",
    "model.pretrained_file",
    "tasks.det.decoder_weights",
}
SIDE_FILE = "ufo_ds.json"
"""What a run must agree with to resume, readable before DeepSpeed loads anything."""


def save_checkpoint(
    engine: Any, folder: Path, step: int, state: dict[str, Any], exchange: ObjectExchange, recipe: Recipe
) -> None:
    """Write the checkpoint of `step` with all ranks, then remove all but the newest `train.keep_checkpoints`.

    `state` is picklable and goes along; it must hold no tensors.
    """
    name = f"step-{step:08d}"
    partial = f"{name}.partial"
    if exchange.ranks.first:
        shutil.rmtree(folder / partial, ignore_errors=True)
        folder.mkdir(parents=True, exist_ok=True)
    exchange.barrier()
    engine.save_checkpoint(
        str(folder), tag=partial, client_state={"ufo_ds": {**state, "step": step}}, save_latest=False
    )
    exchange.barrier()
    if exchange.ranks.first:
        side = {"step": step, "world": exchange.ranks.world, "recipe": dataclasses.asdict(recipe)}
        (folder / partial / SIDE_FILE).write_text(json.dumps(side, indent=1))
        shutil.rmtree(folder / name, ignore_errors=True)
        (folder / partial).rename(folder / name)
        for old in list_checkpoints(folder)[: -recipe.train.keep_checkpoints]:
            shutil.rmtree(old)
    exchange.barrier()


def list_checkpoints(folder: Path) -> list[Path]:
    """Whole checkpoints, oldest first."""
    return sorted(path for path in folder.glob("step-*") if path.is_dir() and path.suffix != ".partial")


def step_of(checkpoint: Path) -> int:
    """The step that a checkpoint of `list_checkpoints` was written after."""
    return int(checkpoint.name.removeprefix("step-"))


def load_checkpoint(engine: Any, path: Path) -> dict[str, Any]:
    """Bring the engine back to a checkpoint. Returns the state that went along, with `step`.

    Raises:
        UserError: a checkpoint that cannot be read.
    """
    try:
        loaded, client = engine.load_checkpoint(str(path.parent), tag=path.name, load_lr_scheduler_states=False)
    except (OSError, RuntimeError, EOFError, AssertionError, ValueError) as error:
        raise UserError(f"{path}: cannot be loaded ({error}); remove it to resume from the one before") from None
    if loaded is None:
        raise UserError(f"{path}: holds no checkpoint; remove it to resume from the one before")
    return client["ufo_ds"]


def check_resumable(path: Path, recipe: Recipe, world: int) -> None:
    """Whether a run of this recipe and number of ranks may go on from a checkpoint. Raises `UserError`."""
    try:
        saved = json.loads((path / SIDE_FILE).read_text())
    except (OSError, ValueError) as error:
        raise UserError(
            f"{path / SIDE_FILE}: cannot be read ({error}); remove {path.name} to resume from the one before"
        ) from None
    if saved["world"] != world:
        raise UserError(f"{path}: written by {saved['world']} ranks, this run has {world}; resume with as many")
    before, now = flat(saved["recipe"]), flat(dataclasses.asdict(recipe))
    for key in sorted(before.keys() | now.keys()):
        group = key.split(".")[0]
        if key in FREE or group in FREE or before.get(key) == now.get(key):
            continue
        raise UserError(
            f"{path}: key '{key}' was {before.get(key)} and is {now.get(key)} now; a resumed run keeps its "
            "recipe, a changed one starts in a new --run folder"
        )


def flat(values: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested keys as dotted ones; sequences as lists."""
    result: dict[str, Any] = {}
    for key, value in values.items():
        if isinstance(value, dict):
            result |= flat(value, f"{prefix}{key}.")
        else:
            result[prefix + key] = list(value) if isinstance(value, tuple) else value
    return result
