"""Checkpoints to resume from: written aside and renamed, so that a crash never costs the last good one."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ufo_ds.distributed import ObjectExchange
from ufo_ds.errors import UserError
from ufo_ds.recipe import Recipe
from ufo_ds.redaction import without_secrets
from ufo_ds.training.averaging import WeightAverage
from ufo_ds.training.vouching import describe_files, file_names, read_side_file, vouch, write_side_file

# Keys that may differ between the two halves of a run: where things are, how often, how many processes.
FREE = {
    *("tracking", "prediction"),
    *("data.shards", "data.remote", "data.cache", "data.cache_gib"),
    "data.workers",
    "train.steps",
    "train.eval_every",
    "train.eval_images",
    "train.checkpoint_every",
    "train.keep_checkpoints",
    "train.max_skipped",
    "train.gallery",
    "train.threads",
    "deepspeed",
    "surgery.self_test",
    "model.pretrained",
    "model.pretrained_file",
    "tasks.det.decoder_weights",
}
PARTIAL = ".partial"


def save_checkpoint(
    engine: Any,
    folder: Path,
    step: int,
    state: Mapping[str, Any],
    exchange: ObjectExchange,
    recipe: Recipe,
    shards: Mapping[str, str],
    average: WeightAverage | None = None,
) -> None:
    """Write the checkpoint of `step` with all ranks, then remove all but the newest `train.keep_checkpoints`.

    Args:
        engine: of DeepSpeed.
        folder: of all checkpoints of the run.
        step: that was just taken.
        state: plain JSON values that go along.
        exchange: over the ranks.
        recipe: of the run.
        shards: `fingerprint` of each task's shards.
        average: of the weights, where there is one.

    Raises:
        UserError: no room, or no right to write. The earlier checkpoints stay as they are.
    """
    name = f"step-{step:08d}"
    partial = folder / (name + PARTIAL)
    if exchange.ranks.first:
        _clear(folder)
    exchange.barrier()
    try:
        if average and exchange.ranks.first:
            average.save(partial)
        engine.save_checkpoint(str(folder), tag=partial.name, client_state={}, save_latest=False)
        names = file_names(partial)[exchange.ranks.rank :: exchange.ranks.world]
        by_rank = exchange.gather(describe_files(partial, names))
        if by_rank is not None:
            files = {name: found for described in by_rank for name, found in described.items()}
            side = {"step": step, "world": exchange.ranks.world, "recipe": without_secrets(dataclasses.asdict(recipe))}
            digest = write_side_file(partial, {**side, "shards": dict(shards), "state": dict(state), "files": files})
            vouch(folder, name, digest)
            shutil.rmtree(folder / name, ignore_errors=True)
            partial.rename(folder / name)
            _to_disk(folder)
            _rotate(folder, step, recipe.train.keep_checkpoints)
    except (OSError, RuntimeError) as error:
        reason = _write_failure(error)
        if reason is None:
            raise
        shutil.rmtree(partial, ignore_errors=True)
        free = shutil.disk_usage(folder).free >> 20
        raise UserError(
            f"{folder}: the checkpoint of step {step} cannot be written ({reason}; {free} MiB free); the earlier ones "
            "are as they were: make room and --resume"
        ) from None
    exchange.barrier()


def _clear(folder: Path) -> None:
    """Make the folder, without what a crash left half written."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"{folder}: cannot be made ({error.strerror}); make room or choose another --run") from None
    for left in folder.glob(f"step-*{PARTIAL}"):
        shutil.rmtree(left, ignore_errors=True)


def _rotate(folder: Path, step: int, keep: int) -> None:
    """Remove the oldest, and those of later steps: the run went back behind them, since they were damaged."""
    found = list_checkpoints(folder)
    kept = [path for path in found if step_of(path) <= step][-keep:]
    for path in found:
        if path not in kept:
            shutil.rmtree(path, ignore_errors=True)


def _write_failure(error: OSError | RuntimeError) -> str | None:
    """Why a write failed, if that is what happened: torch's writer hides the reason behind an error of its own."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, OSError) and cause.strerror:
            return cause.strerror
        cause = cause.__cause__ or cause.__context__
    writer = any(sign in str(error) for sign in ("inline_container", "PytorchStreamWriter", "iostream"))
    return "the disk is full, or a file may not be so large" if writer else None


def _to_disk(folder: Path) -> None:
    """Bring the names in a folder to the disk. Not every file system can."""
    with contextlib.suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def list_checkpoints(folder: Path) -> list[Path]:
    """Whole checkpoints, oldest first."""
    return sorted(path for path in folder.glob("step-*") if path.is_dir() and path.name[5:].isdecimal())


def step_of(checkpoint: Path) -> int:
    """The step that a checkpoint of `list_checkpoints` was written after."""
    return int(checkpoint.name.removeprefix("step-"))


@dataclasses.dataclass
class Checkpoint:
    """A checkpoint that is whole: `path`, and `side`, the content of its side file."""

    path: Path
    side: dict[str, Any]

    @property
    def step(self) -> int:
        """The step that it was written after."""
        return int(self.side["step"])


def newest_checkpoint(folder: Path) -> tuple[Checkpoint | None, list[str]]:
    """The newest checkpoint that is whole and was written by this run, or None where there are none at all; and a line
    on each newer one that is damaged.

    Raises:
        UserError: there are some, and none is whole.
    """
    damaged = []
    for path in reversed(list_checkpoints(folder)):
        try:
            return Checkpoint(path, read_side_file(path)), damaged
        except ValueError as problem:
            damaged.append(f"{path}: {problem}")
    if damaged:
        raise UserError(
            f"{damaged[0]}; no checkpoint of this run is whole ({len(damaged)} there): start anew in another --run"
        )
    return None, []


def load_checkpoint(engine: Any, checkpoint: Checkpoint, average: WeightAverage | None) -> dict[str, Any]:
    """Bring the engine and the average of the weights back to a checkpoint. Returns the state that went along.

    Raises:
        UserError: a checkpoint that cannot be read.
    """
    path = checkpoint.path
    try:
        loaded, _ = engine.load_checkpoint(str(path.parent), tag=path.name, load_lr_scheduler_states=False)
    except (OSError, RuntimeError, EOFError, AssertionError, ValueError) as error:
        raise UserError(f"{path}: cannot be loaded ({error}); remove it to resume from the one before") from None
    if loaded is None:
        raise UserError(f"{path}: holds no checkpoint; remove it to resume from the one before")
    if average:
        average.load(path)
    return checkpoint.side["state"]


def check_resumable(checkpoint: Checkpoint, recipe: Recipe, shards: Mapping[str, str], world: int) -> None:
    """Whether a run of this recipe, shards and number of ranks may go on from a checkpoint. Raises `UserError`."""
    path, saved = checkpoint.path, checkpoint.side
    if saved["world"] != world:
        raise UserError(
            f"{path}: written by {saved['world']} ranks, this run has {world}; resume with as many, or start a new run "
            "from its weights (launch/finetune.py --weights)"
        )
    now = flat(dataclasses.asdict(recipe))
    # A key that the writer did not know yet had its default, which is to do as before.
    before = {**flat(dataclasses.asdict(Recipe())), **flat(saved["recipe"])}
    for key in sorted(before.keys() | now.keys()):
        group = key.split(".")[0]
        if key in FREE or group in FREE or before.get(key) == now.get(key):
            continue
        raise UserError(
            f"{path}: key '{key}' was {before.get(key)} and is {now.get(key)} now; a resumed run keeps its "
            "recipe, a changed one starts in a new --run folder"
        )
    for task, known in saved["shards"].items():
        if shards.get(task) != known:
            raise UserError(
                f"{path}: key 'data.shards': the {task} shards in {recipe.data.shards} are not those that the run "
                "began with; a resumed run keeps its data, other data start in a new --run folder"
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
