"""Bytes that a rank holds under ZeRO-2 with gradient surgery, and what it sends in a step."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

FP32 = 4


@dataclass(frozen=True)
class Sizes:
    """Numbers of parameters.

    Attributes:
        shared: of the trunk, in all tasks' hands.
        own: of each task alone (its head, its copies of blocks), by task.
        idle: of the way that a task does not take in a step, where ways are learned.
    """

    shared: int
    own: Mapping[str, int]
    idle: int = 0

    @property
    def all(self) -> int:
        """Of the whole model."""
        return self.shared + sum(self.own.values())


@dataclass(frozen=True)
class Engine:
    """What of DeepSpeed's settings and of the recipe decides over memory and traffic.

    Attributes:
        ranks: N.
        bucket: elements of a bucket of gradients.
        overlap: whether a second bucket fills while the first one travels.
        offload: whether the optimizer's part, and the gradients at rest, are in host memory.
        apart: whether the tasks' gradients are kept apart until they are combined.
        average: whether there is a moving average of the weights.
        accumulate: micro-batches a task and step.
        exact: whether gradients travel in fp32.
        fused: whether the optimizer's step needs no memory of its own.
    """

    ranks: int
    bucket: int
    overlap: bool
    offload: bool
    apart: bool
    average: bool
    accumulate: int
    exact: bool
    fused: bool


def held(sizes: Sizes, engine: Engine) -> dict[str, int]:
    """Bytes a rank holds between two steps, by part."""
    partition = FP32 * sizes.all // engine.ranks
    parts = {"weights": FP32 * sizes.all, "fp32 master weights": partition, "Adam's moments": 2 * partition}
    if engine.offload:
        parts = {name: value for name, value in parts.items() if name == "weights"}
    if engine.average:
        parts["moving average"] = FP32 * sizes.all
    return parts


def at_the_peak(sizes: Sizes, engine: Engine, activations: Mapping[str, int]) -> tuple[str, dict[str, int]]:
    """When a rank holds most within a step, and what comes to `held` then.

    Args:
        sizes: of the model.
        engine: its settings.
        activations: of a micro-batch, bytes by task in the order of the steps.

    Returns:
        `backward of <task>` or `optimizer step`, and bytes by part.
    """
    # With offload what is partitioned is in host memory.
    shared, own, whole = (
        0 if engine.offload else FP32 * count // engine.ranks
        for count in (sizes.shared, sum(sizes.own.values()), sizes.all)
    )
    buckets = FP32 * engine.bucket * (2 if engine.overlap else 1)
    moments: dict[str, dict[str, int]] = {}
    for number, (task, size) in enumerate(activations.items()):
        kept = (number if engine.apart else min(number, 1)) * shared + (own if number else 0)
        moments[f"backward of {task}"] = {
            "activations": size,
            "buckets of gradients": buckets,
            "partitions of gradients": kept + whole,
        }
    count = len(activations) if engine.apart else 1
    moments["optimizer step"] = {
        "partitions of gradients": count * shared + own,
        "flattened gradient": whole,
        "optimizer's own": 0 if engine.fused else 2 * whole,
    }
    worst = max(moments, key=lambda name: sum(moments[name].values()))
    return worst, moments[worst]


def traffic(sizes: Sizes, engine: Engine, tasks: int, blocks: int) -> dict[str, int]:
    """Bytes that a rank sends in a step, by purpose (ring algorithms; docs/surgery.md).

    Args:
        sizes: of the model.
        engine: its settings.
        tasks: their number, T.
        blocks: Gram matrices a step, of T x T numbers each; 0: none.
    """
    share = (engine.ranks - 1) / engine.ranks
    width = FP32 if engine.exact else FP32 // 2
    reduced = sum(sizes.shared + own - sizes.idle for own in sizes.own.values()) * engine.accumulate
    surgery = blocks * 8 * (tasks * tasks + tasks) + 8 + 4 * tasks if engine.ranks > 1 else 0
    return {
        "gradients, all-reduced": int(2 * width * reduced * share),
        "weights, gathered": int(FP32 * sizes.all * share),
        "surgery": surgery,
    }


def zero_settings(settings: Mapping[str, Any]) -> tuple[int, bool]:
    """(elements of a bucket, whether buckets overlap) of DeepSpeed's settings, its defaults where they are silent."""
    zero = settings.get("zero_optimization") or {}
    return int(zero.get("reduce_bucket_size", 500_000_000)), bool(zero.get("overlap_comm", False))
