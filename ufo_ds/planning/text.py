"""A plan as text for the terminal, and as plain values for JSON."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from ufo_ds.planning.plan import Plan, TaskPlan
from ufo_ds.recipe import Recipe

MIB, GIB = 2**20, 2**30


def as_text(plan: Plan, recipe: Recipe, teraflops: float) -> str:
    """Several short tables.

    Args:
        plan: to be shown.
        recipe: that was planned.
        teraflops: arithmetic that one GPU sustains, for the estimate of time.
    """
    return "\n".join([*_parameters(plan), *_memory(plan), *_step(plan, teraflops), *_passes(plan, recipe, teraflops)])


def as_values(plan: Plan) -> dict[str, Any]:
    """Nested plain values, bytes and counts."""
    return {
        "ranks": plan.engine.ranks,
        "parameters": {"trunk": plan.sizes.shared, **{f"own of {name}": n for name, n in plan.sizes.own.items()}},
        "bytes": {"held": plan.held, "moment": plan.moment, "peak": plan.peak, "in_all": plan.bytes_at_peak},
        "traffic": plan.traffic,
        "flops": {name: task.cost.flops for name, task in plan.tasks.items()},
        "images": {name: task.images for name, task in plan.tasks.items()},
        "steps": plan.steps,
    }


def _parameters(plan: Plan) -> Iterator[str]:
    yield "parameters"
    yield _row("trunk, shared", f"{plan.sizes.shared / 1e6:,.2f} M")
    for name, count in plan.sizes.own.items():
        yield _row(f"own of {name} (head, blocks)", f"{count / 1e6:,.2f} M")
    yield _row("in all", f"{plan.sizes.all / 1e6:,.2f} M")


def _memory(plan: Plan) -> Iterator[str]:
    yield f"\nmemory of a rank, {plan.engine.ranks} rank(s)"
    yield from _sizes(plan.held)
    yield f"  and in the {plan.moment}"
    yield from _sizes(plan.peak)
    yield _row("at the peak", _bytes(plan.bytes_at_peak))
    yield "  CUDA's context, cuDNN's workspaces and fragmentation come on top: leave about 10 % and 1 GiB"


def _sizes(parts: Mapping[str, int]) -> Iterator[str]:
    for name, size in parts.items():
        if size:
            yield _row(name, _bytes(size))


def _step(plan: Plan, teraflops: float) -> Iterator[str]:
    yield "\na step"
    for name, task in plan.tasks.items():
        count, height, width = task.cost.images
        yield _row(
            f"{name}, {count} x {height} x {width} a rank",
            f"activations {_bytes(task.cost.peak)}, {task.cost.flops / 1e12:,.3f} TFLOP, {task.images} images in all",
        )
    for purpose, size in plan.traffic.items():
        yield _row(purpose, f"{_bytes(size)} sent by each rank")
    yield _row("arithmetic alone", f"{plan.flops / teraflops / 1e12:.3f} s at {teraflops:g} TFLOP/s a GPU")


def _passes(plan: Plan, recipe: Recipe, teraflops: float) -> Iterator[str]:
    yield "\nthe run"
    if plan.steps is None:
        yield _row("steps", f"as many as {recipe.train.epochs:g} epochs take; --data.shards tells")
        return
    hours = plan.steps * plan.flops / teraflops / 1e12 / 3600
    yield _row("steps", f"{plan.steps:,}; {hours:,.2f} h of arithmetic, reading and traffic aside")
    for name, task in plan.tasks.items():
        yield _row(name, _pass(task, plan.steps, recipe, plan.engine.ranks))


def _pass(task: TaskPlan, steps: int, recipe: Recipe, ranks: int) -> str:
    seen = f"{task.images * steps:,} images"
    if not task.samples:
        return f"{seen}; --data.shards tells how many passes those are"
    a_pass = task.samples / task.images
    readers = max(1, recipe.data.workers)
    window = min(recipe.data.window, task.shards or 0)
    return (
        f"{seen}, {task.images * steps / task.samples:,.1f} passes of {a_pass:,.1f} steps over "
        f"{task.samples:,} samples; "
        f"{task.shards} shard(s), {window} open at a time for each of {ranks * readers} reader(s), "
        f"{task.samples / (ranks * readers):,.0f} samples a reader and pass"
    )


def _row(name: str, value: str) -> str:
    return f"  {name:<34} {value}"


def _bytes(size: int) -> str:
    if size >= GIB:
        return f"{size / GIB:,.2f} GiB"
    return f"{size / MIB:,.1f} MiB" if size >= MIB / 10 else f"{size:,} B"
