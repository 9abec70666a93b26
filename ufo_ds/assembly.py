"""From a recipe and the classes of each task to a model, and to the folder of weights that brings it back."""

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ufo_ds import command_line
from ufo_ds.data.folders import LocalFolder, RemoteFolder, open_folder
from ufo_ds.data.schema import META_NAME, TASKS, ClassInfo, TaskMeta
from ufo_ds.errors import UserError, reason_of, shown
from ufo_ds.files import read_text, replace_file
from ufo_ds.model.copies import fill_copies
from ufo_ds.model.joint import JointModel
from ufo_ds.model.trunk import Trunk
from ufo_ds.recipe import Recipe
from ufo_ds.tasks import get_task
from ufo_ds.tasks.task import Head

WEIGHTS, CONFIG = "model.safetensors", "config.json"
FORMAT = 1


def read_metas(recipe: Recipe) -> dict[str, TaskMeta]:
    """What the shards of each task of the run hold; the recipe's tasks, or every task with shards to train on.

    Raises:
        UserError: no shards given, none for a task, or a build that is not finished.
    """
    root = shards_folder(recipe)
    names = recipe.tasks.names or [name for name in TASKS if root.has(name)]
    if not names:
        raise UserError(
            f"{root}: no shards here (no <task>/{META_NAME}); key 'data.shards' names the folder that "
            "shards/build.py wrote"
        )
    metas = {name: root.read_meta(name) for name in TASKS if name in names}
    if not recipe.tasks.names:  # a download may bring test images of a task that it has no labels for
        metas = {name: meta for name, meta in metas.items() if "train" in meta.splits}
    if not metas:
        raise UserError(f"{root}: no task here has a train split; build one with shards/build.py")
    return metas


def shards_folder(recipe: Recipe) -> LocalFolder | RemoteFolder:
    """The folder that `data.shards` names. Raises `UserError`."""
    data = recipe.data
    if not data.shards:
        raise UserError("key 'data.shards' is not set: give the folder that shards/build.py wrote, --data.shards DIR")
    return open_folder(data.shards, cache=data.cache, cache_gib=data.cache_gib, stream=data.remote == "stream")


def build_model(recipe: Recipe, metas: Mapping[str, TaskMeta]) -> JointModel:
    """A new model of the recipe, with a head for each task of `metas`."""
    trunk = Trunk(recipe.model, list(metas), recipe.trunk)
    return JointModel(trunk, {name: build_head(recipe, meta, trunk) for name, meta in metas.items()})


def build_head(recipe: Recipe, meta: TaskMeta, trunk: Trunk) -> Head:
    """A new head of the recipe for a task and its classes."""
    return get_task(meta.task).head(getattr(recipe.tasks, meta.task), meta, trunk.shape)


def save_weights(
    model: JointModel,
    recipe: Recipe,
    metas: Mapping[str, TaskMeta],
    folder: Path,
    figures: Mapping[str, Any] | None = None,
) -> None:
    """Write a folder of weights: `model.safetensors` and the `config.json` that brings the model back. No pickle.

    The config is replaced last, and each file atomically.

    Raises:
        UserError: they cannot be written.
    """
    write_tensors(model, folder / WEIGHTS)
    config = {
        "format": FORMAT,
        "precision": recipe.train.precision,
        "model": dataclasses.asdict(recipe.model),
        "trunk": dataclasses.asdict(model.trunk.settings),
        "tasks": {
            name: {
                "config": dataclasses.asdict(getattr(recipe.tasks, name)),
                "classes": [dataclasses.asdict(item) for item in meta.classes],
            }
            for name, meta in metas.items()
        },
        "prediction": dataclasses.asdict(recipe.prediction),
        **(figures or {}),
    }
    replace_file(folder / CONFIG, json.dumps(config, indent=1))


def write_tensors(model: torch.nn.Module, path: Path) -> None:
    """Write a model's tensors as safetensors, atomically. `UserError` where they cannot be written."""
    from safetensors import SafetensorError
    from safetensors.torch import save_file

    # Copies: the decoders tie tensors under two names, and safetensors refuses shared memory.
    tensors = {name: value.detach().cpu().contiguous().clone() for name, value in model.state_dict().items()}
    partial = path.with_name(path.name + ".partial")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        save_file(tensors, partial)
        os.replace(partial, path)
    except (OSError, SafetensorError) as error:
        partial.unlink(missing_ok=True)
        raise UserError(f"{path}: cannot be written ({reason_of(error)}); make room for it") from None


def find_weights(path: Path) -> Path:
    """The folder of weights that `path` means: a run (its best, else its last), an export, or such a folder itself."""
    for folder in (path, path / "weights" / "best", path / "weights" / "last"):
        if (folder / WEIGHTS).is_file() and (folder / CONFIG).is_file():
            return folder
    if path.name == WEIGHTS and (path.parent / CONFIG).is_file():
        return path.parent
    raise UserError(f"{path}: no weights here; give a run folder, an export, or a folder with {WEIGHTS} and {CONFIG}")


def load_model(path: Path) -> tuple[JointModel, Recipe, dict[str, TaskMeta]]:
    """The model of a folder of weights, on the CPU, in evaluation mode, with its recipe (model, tasks, prediction) and
    classes.
    """
    folder = find_weights(path)
    config = _read_config(folder / CONFIG)
    recipe, metas = _recipe_of(config, folder / CONFIG)
    model = build_model(recipe, metas)
    tensors = read_tensors(folder / WEIGHTS)
    missing, unexpected, misshaped = compare_tensors(model.state_dict(), tensors)
    if missing or unexpected or misshaped:
        worst = (missing + unexpected + misshaped)[0]
        raise UserError(
            f"{folder / WEIGHTS}: does not fit its {CONFIG} (first: tensor '{worst}'); the two files belong "
            "to different models"
        )
    model.load_state_dict(tensors)
    return model.eval(), recipe, metas


def load_fitting(model: JointModel, path: Path) -> dict[str, list[str]]:
    """Take over from a folder of weights all that fits the model; the rest of the model stays as it is.

    A head is taken whole or not at all: half a head, with a classifier for other classes, would be neither. But a
    decoder, a pyramid or a fusion whose classifier alone differs is worth keeping: there the tensors that do not fit
    are re-made and the others taken. Copies that a task has of parts of the trunk start as `fill_copies` says.

    Returns:
        `taken`: parts that came over whole; `remade`: names of tensors that did not fit; `absent`: heads that the
        weights do not have.

    Raises:
        UserError: a trunk of another shape.
    """
    folder = find_weights(path)
    own = model.state_dict()
    tensors = fill_copies(own, read_tensors(folder / WEIGHTS))
    _, _, misshaped = compare_tensors(own, tensors)
    trunk_missing = [name for name in own if name.startswith("trunk.") and name not in tensors]
    broken = trunk_missing + [name for name in misshaped if name.startswith("trunk.")]
    if broken:
        raise UserError(
            f"{folder / WEIGHTS}: the trunk is another one (first: tensor '{broken[0]}'); keys model.trunk, "
            "model.trunk_kwargs and trunk.sliced must be those of the weights"
        )
    fitting = {name: value for name, value in tensors.items() if name in own and name not in misshaped}
    model.load_state_dict(fitting, strict=False)
    heads = {f"heads.{name}" for name in model.heads}
    absent = sorted(head for head in heads if not any(name.startswith(head + ".") for name in tensors))
    remade = sorted(name for name in own if name not in fitting and not name.startswith(tuple(f"{a}." for a in absent)))
    whole = [
        "trunk",
        *(
            head
            for head in sorted(heads)
            if head not in absent and not any(name.startswith(head + ".") for name in remade)
        ),
    ]
    return {"taken": whole, "remade": remade, "absent": absent}


def read_tensors(path: Path) -> dict[str, Tensor]:
    """A safetensors file. `UserError` where it is not one, or where a tensor holds a NaN."""
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        tensors = load_file(path)
    except (OSError, SafetensorError) as error:
        raise UserError(
            f"{path}: not a readable safetensors file ({error}); write it again with the run or the export"
        ) from None
    for name, value in tensors.items():
        if value.is_floating_point() and value.float().isnan().any():
            raise UserError(f"{path}: tensor {shown(name, 80)} holds NaN, its run diverged; take earlier weights")
    return tensors


def compare_tensors(own: Mapping[str, Tensor], given: Mapping[str, Tensor]) -> tuple[list[str], list[str], list[str]]:
    """Names missing from `given`, names only there, and names of another shape or kind (whole, floating) there."""
    return (
        [name for name in own if name not in given],
        [name for name in given if name not in own],
        [name for name in own if name in given and not _alike(own[name], given[name])],
    )


def _alike(first: Tensor, second: Tensor) -> bool:
    return first.shape == second.shape and first.dtype.is_floating_point == second.dtype.is_floating_point


def values_of(path: Path) -> dict[str, Any]:
    """The recipe values (model, tasks, prediction) of a folder of weights: the base of a run that starts there."""
    config_file = find_weights(path) / CONFIG
    config = _read_config(config_file)
    _recipe_of(config, config_file)
    return _values(config)


def _read_config(path: Path) -> dict[str, Any]:
    try:
        config = json.loads(read_text(path))
    except (OSError, ValueError, RecursionError) as error:
        raise UserError(f"{path}: not readable as JSON: {error}") from None
    if not isinstance(config, dict) or config.get("format") != FORMAT or "model" not in config or "tasks" not in config:
        raise UserError(f"{path}: not a model description of format {FORMAT}; it is written beside {WEIGHTS}")
    return config


def _recipe_of(config: dict[str, Any], path: Path) -> tuple[Recipe, dict[str, TaskMeta]]:
    metas = {}
    name = "?"
    try:
        recipe = command_line.recipe_from(_values(config), str(path))
        recipe.tasks.names = list(config["tasks"])
        for name, task in config["tasks"].items():
            metas[name] = TaskMeta(name, "weights", _classes_of(task["classes"]), {})
        if not metas:
            raise ValueError("no task at all")
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise UserError(f"{path}: key 'tasks.{name}': {shown(error, 100)}; export the weights again") from None
    return recipe, metas


def _classes_of(items: Any) -> list[ClassInfo]:
    classes = [ClassInfo(**item) for item in items]
    for item in classes:
        if type(item.id) is not int or not 0 <= item.id < 2**63 or not isinstance(item.name, str):
            raise ValueError(f"class {shown(item.id)} with the name {shown(item.name)}")
    ids = [item.id for item in classes]
    if not ids or ids != sorted(set(ids)):
        raise ValueError("classes are not one or more in ascending order of distinct ids")
    return classes


def _values(config: dict[str, Any]) -> dict[str, Any]:
    """Recipe values of a model description. Published weights are part of the model's own by now."""
    tasks = {name: dict(task["config"]) for name, task in config["tasks"].items()}
    if "det" in tasks:
        tasks["det"]["decoder_weights"] = None
    model = {**config["model"], "pretrained": False, "pretrained_file": None}
    return {
        "model": model,
        "trunk": config.get("trunk", {}),
        "tasks": tasks,
        "prediction": config.get("prediction", {}),
        "train": {"precision": config.get("precision", "fp32")},
    }


def count_parameters(model: torch.nn.Module) -> int:
    """Number of parameters."""
    return sum(parameter.numel() for parameter in model.parameters())


def average_score(scores: Mapping[str, Any]) -> float:
    """Mean of the tasks' own score keys (Top-1, mAP50, mIoU), over the tasks that are there."""
    figures = [values[get_task(name).score_key] for name, values in scores.items() if name in TASKS]
    return sum(figures) / len(figures)
