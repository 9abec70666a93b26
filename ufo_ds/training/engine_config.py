"""The recipe and a DeepSpeed JSON -> the settings DeepSpeed gets.

Batch size, precision and clipping live in the recipe.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from ufo_ds.command_line import ROOT
from ufo_ds.errors import UserError
from ufo_ds.recipe import Recipe
from ufo_ds.surgery.zero import ENGINE_SETTINGS


def engine_config(recipe: Recipe, tasks: list[str]) -> dict[str, Any]:
    """DeepSpeed's settings for a run.

    The JSON brings what concerns sharding and communication; what the recipe says is derived, and a JSON that says it
    too, differently, is refused.

    Raises:
        UserError: a file that is missing or no JSON, or a key that contradicts the recipe or the harvest of gradients.
    """
    settings, where = _load(recipe.deepspeed)
    bf16 = recipe.train.precision == "bf16"
    batch = sum(getattr(recipe.tasks, name).batch for name in tasks)
    _refuse(settings, where)
    _check_same(settings, where, "gradient_clipping", recipe.train.clip, "train.clip")
    _check_same(settings, where, "train_micro_batch_size_per_gpu", batch, "tasks.<task>.batch", placeholder=1)
    # DeepSpeed clips at 1.0 unless told (since 0.19.3), and reduces in the weights' type unless told.
    autocast: dict[str, Any] = {"enabled": bf16, "dtype": "bfloat16"}
    if recipe.train.exact_reduce:
        autocast["lower_precision_safe_modules"] = []
    return {
        **settings,
        "train_micro_batch_size_per_gpu": batch,
        "gradient_accumulation_steps": 1,
        "gradient_clipping": recipe.train.clip,
        "torch_autocast": autocast,
        **ENGINE_SETTINGS,
    }


def offload_device(settings: dict[str, Any]) -> str:
    """Where the optimizer's states live: `none` (with the model) or `cpu`."""
    offload = (settings.get("zero_optimization") or {}).get("offload_optimizer") or {}
    return str(offload.get("device") or "none") if isinstance(offload, dict) else str(offload)


def _load(given: str | dict[str, Any]) -> tuple[dict[str, Any], str]:
    if isinstance(given, dict):
        return dict(given), "key 'deepspeed'"
    path = next((path for path in (Path(given), ROOT / given) if path.is_file()), None)
    if path is None:
        raise UserError(f"{given}: no such DeepSpeed JSON (key 'deepspeed'); ds_configs/ has some")
    try:
        settings = json.loads(path.read_text())
    except (OSError, ValueError, RecursionError) as error:
        raise UserError(f"{path}: not a readable JSON file: {error}") from None
    if not isinstance(settings, dict):
        raise UserError(f"{path}: a DeepSpeed configuration is a JSON object")
    return settings, str(path)


def _refuse(settings: dict[str, Any], where: str) -> None:
    zero = settings.get("zero_optimization")
    if not isinstance(zero, dict) or zero.get("stage") != 2:
        raise UserError(f"{where}: zero_optimization.stage must be 2, gradient surgery works on its partitions")
    remedies = {
        "fp16": "remove it; precision is the recipe's train.precision (fp32 or bf16)",
        "bf16": "remove it; train.precision: bf16 runs bf16 arithmetic on fp32 weights, which keeps boxes exact",
        "torch_autocast": "remove it; it follows from the recipe's train.precision",
        "optimizer": "remove it; the optimizer is the recipe's",
        "scheduler": "remove it; the schedule is the recipe's",
        "wall_clock_breakdown": "remove it; it does not work with several backwards a step",
        "train_batch_size": "remove it; it follows from tasks.<task>.batch and the number of ranks",
    }
    for key, remedy in remedies.items():
        value = settings.get(key)
        if value and not (isinstance(value, dict) and value.get("enabled") is False):
            raise UserError(f"{where}: key '{key}': {remedy}")
    if zero.get("round_robin_gradients"):
        raise UserError(
            f"{where}: key 'zero_optimization.round_robin_gradients': set it to false, it permutes the partitions"
        )
    for key in ("offload_param", "cpu_offload"):
        value = zero.get(key)
        if value and not (isinstance(value, dict) and value.get("device") in (None, "none")):
            raise UserError(f"{where}: key 'zero_optimization.{key}': remove it; offload_optimizer to the cpu works")
    if offload_device(settings) not in ("none", "cpu"):
        raise UserError(f"{where}: key 'zero_optimization.offload_optimizer.device': it may be cpu or none")
    if settings.get("gradient_accumulation_steps", 1) != 1:
        raise UserError(
            f"{where}: key 'gradient_accumulation_steps' must be 1; the recipe's train.accumulate is the number of "
            "micro-batches a task"
        )


def _check_same(settings: dict[str, Any], where: str, key: str, value: Any, home: str, placeholder: Any = None) -> None:
    said = settings.get(key)
    if said is not None and said != placeholder and said != value:
        raise UserError(
            f"{where}: key '{key}' is {said}, the recipe's {home} makes it {value}; remove it from the JSON"
        )
