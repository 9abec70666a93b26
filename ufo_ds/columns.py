"""The names that the numbers of a step's JSON object have as columns, in wandb and in the report."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, TypeVar

COSINE = "surgery/cosine/"
"""Before the name of a pair of tasks: the cosine of their gradients on the whole trunk."""
BLOCKS = "surgery/blocks/"
"""Before the name of a block of the trunk."""
OWN = "trunk/own/"
"""Before a task's name: the probabilities that it takes its own copies, by place."""
_Column = TypeVar("_Column")


def flatten(row: Mapping[str, Any]) -> dict[str, float]:
    """A step's JSON object -> numbers by name, in the name spaces `train/`, `val/`, `perf/`, `surgery/`, `trunk/`.

    None, which stands for a number that is not finite, becomes NaN.
    """
    surgery = row.get("surgery") or {}
    names = surgery.get("tasks", [])
    tree = {
        "train": {**{key: row[key] for key in ("lr", "grad_norm", "epoch", "loss") if key in row},
                  **row.get("loss_parts", {})},
        "val": row.get("val", {}),
        "perf": row.get("perf", {}),
        "surgery": {**{key: surgery[key] for key in ("grad_norm", "clip", "norm_ratio", "conflicts") if key in surgery},
                    "weight": dict(zip(names, surgery.get("weights", []), strict=False))},
    }
    flat = dict(_leaves(tree, "")) | _flatten_trunk(row.get("trunk") or {})
    for i, row_of_cosines in enumerate(surgery.get("cosine") or []):
        for j in range(i):
            flat[f"{COSINE}{names[j]}-{names[i]}"] = _number(row_of_cosines[j])
    if surgery.get("solver_failed"):
        flat["surgery/solver_failed"] = 1.0
    flat |= {f"surgery/skipped/{task}": 1.0 for task in surgery.get("skipped", [])}
    return flat | _flatten_blocks(surgery.get("blocks") or {})


def _flatten_trunk(trunk: Mapping[str, Any]) -> dict[str, float]:
    """Of `block 3 ffn` the probability of a task's own copy becomes `trunk/own/cls/block_3_ffn`."""
    flat = dict(_leaves({"trunk/width": trunk.get("width") or {}}, ""))
    for task, places in (trunk.get("own") or {}).items():
        flat |= {f"{OWN}{task}/{place.replace(' ', '_')}": _number(value) for place, value in places.items()}
    return flat


def _flatten_blocks(blocks: Mapping[str, Any]) -> dict[str, float]:
    """`block 3` becomes `surgery/blocks/block_3/conflicts` and `.../cosine/cls-det`, in order of depth."""
    flat = {}
    for i, block in enumerate(blocks.get("names", [])):
        name = BLOCKS + block.replace(" ", "_")
        if blocks.get("conflicts"):
            flat[f"{name}/conflicts"] = _number(blocks["conflicts"][i])
        if blocks.get("cosine"):
            for pair, value in zip(blocks["pairs"], blocks["cosine"][i], strict=True):
                flat[f"{name}/cosine/{pair}"] = _number(value)
    return flat


def cosines(columns: Mapping[str, _Column]) -> dict[str, _Column]:
    """Of columns, those of the cosine on the whole trunk, by pair of tasks (`cls-det`)."""
    return {name[len(COSINE):]: column for name, column in columns.items() if name.startswith(COSINE)}


def block_cosines(columns: Mapping[str, _Column]) -> dict[str, dict[str, _Column]]:
    """Of columns, those of the cosine on a block of the trunk, by pair of tasks and block, in order of depth."""
    found: dict[str, dict[str, _Column]] = {}
    for name, column in columns.items():
        if name.startswith(BLOCKS):
            block, inner, pair = name[len(BLOCKS):].partition("/cosine/")
            if inner:
                found.setdefault(pair, {})[block.replace("_", " ")] = column
    return found


def _leaves(tree: Mapping[str, Any], prefix: str) -> list[tuple[str, float]]:
    leaves: list[tuple[str, float]] = []
    for key, value in tree.items():
        if isinstance(value, Mapping):
            leaves += _leaves(value, f"{prefix}{key}/")
        elif value is None or isinstance(value, int | float):
            leaves.append((prefix + key, _number(value)))
    return leaves


def _number(value: float | None) -> float:
    return math.nan if value is None else value
