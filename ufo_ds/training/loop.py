"""The training loop."""

from __future__ import annotations

import math
import resource
import time
import zlib
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist

from ufo_ds.assembly import save_weights
from ufo_ds.distributed import stop
from ufo_ds.errors import UserError
from ufo_ds.recipe import Recipe
from ufo_ds.training.checkpoints import save_checkpoint
from ufo_ds.training.evaluation import write_gallery, write_scores
from ufo_ds.training.session import Session, open_session


def train(
    recipe: Recipe, run_dir: Path, *, resume: bool = False, weights: Path | None = None, command: str = ""
) -> bool:
    """Run a recipe to its last step; see `open_session` for the arguments. Returns whether this is rank 0."""
    session = open_session(recipe, run_dir, resume=resume, weights=weights, command=command)
    failed = True
    try:
        run_steps(session)
        failed = False
    finally:
        session.close(failed)
    stop()
    return session.ranks.first


def run_steps(session: Session) -> None:
    """From the session's step to the recipe's last: the batches of every task, one combined step."""
    settings = session.recipe.train
    session.engine.train()
    for step in range(session.start_step + 1, settings.steps + 1):
        began = time.perf_counter()
        session.schedule.step_update(step - 1)
        seed_step(session.recipe.seed, step, session.ranks.rank)
        losses, data_seconds = backward_all(session)
        findings = session.gradients.combine()
        session.engine.step()
        session.gradients.observe({task: parts["loss"] * weight_of(session, task) for task, parts in losses.items()})
        record = make_record(session, step, losses, findings.as_record(), time.perf_counter() - began, data_seconds)
        last = step == settings.steps
        if session.evaluator.sets and (last or is_due(step, settings.eval_every)):
            record["val"] = evaluate(session, step)
        session.tracker.log(record)
        if last or is_due(step, settings.checkpoint_every):
            checkpoint(session, step)


def backward_all(session: Session) -> tuple[dict[str, dict[str, float]], float]:
    """All micro-batches through the model and back. Mean losses by task and part, and seconds spent on data."""
    losses: dict[str, dict[str, torch.Tensor]] = {}
    data_seconds = 0.0
    micro_batches = session.recipe.train.accumulate
    for task in session.tasks:
        for micro in range(micro_batches):
            waiting = time.perf_counter()
            batch = session.next_batch(task)
            session.replaced[task] += batch.replaced
            data_seconds += time.perf_counter() - waiting
            parts = session.engine(batch)
            loss = parts["loss"] * (weight_of(session, task) / micro_batches)
            session.gradients.backward(task, loss, last=micro == micro_batches - 1)
            sums = losses.setdefault(task, dict.fromkeys(parts, torch.zeros((), device=batch.images.device)))
            losses[task] = {name: sums[name] + value.detach() / micro_batches for name, value in parts.items()}
    return mean_over_ranks(losses, session.ranks.world), data_seconds


def weight_of(session: Session, task: str) -> float:
    """The recipe's factor on a task's loss."""
    return float(getattr(session.recipe.tasks, task).weight)


def mean_over_ranks(losses: dict[str, dict[str, torch.Tensor]], world: int) -> dict[str, dict[str, float]]:
    """The losses averaged over the ranks, in one exchange."""
    names = [(task, part) for task, parts in losses.items() for part in parts]
    values = torch.stack([losses[task][part].double() for task, part in names])
    if world > 1:
        dist.all_reduce(values)
        values /= world
    means: dict[str, dict[str, float]] = {task: {} for task in losses}
    for (task, part), value in zip(names, values.tolist(), strict=True):
        means[task][part] = value
    return means


def seed_step(seed: int, step: int, rank: int) -> None:
    """Make drop-path, dropout and denoising noise a function of (seed, step, rank), so that a resume repeats them."""
    torch.manual_seed(zlib.crc32(f"step {seed} {step} {rank}".encode()))


def is_due(step: int, every: int) -> bool:
    """Whether a periodic action falls on this step; `every` 0 means never."""
    return every > 0 and step % every == 0


def make_record(
    session: Session,
    step: int,
    losses: dict[str, dict[str, float]],
    surgery: dict[str, Any],
    seconds: float,
    data_seconds: float,
) -> dict[str, Any]:
    """The step's line of the log (docs/design.md, Log). Stops the run where a loss is not finite."""
    for task, parts in losses.items():
        if not math.isfinite(parts["loss"]):
            raise UserError(
                f"step {step}: the {task} loss is {parts['loss']}; lower optimizer.lr, set train.clip, or run "
                "with train.precision fp32 to find out why"
            )
    settings = session.recipe
    images = sum(getattr(settings.tasks, task).batch for task in session.tasks)
    images *= session.ranks.world * settings.train.accumulate
    return {
        "step": step,
        "epoch": {task: round(stream.epoch, 4) for task, stream in session.streams.items()},
        "lr": session.schedule.optimizer.param_groups[-1]["lr"],
        "loss": {task: parts["loss"] for task, parts in losses.items()},
        "loss_parts": {
            task: {name: value for name, value in parts.items() if name != "loss"}
            for task, parts in losses.items()
            if len(parts) > 1
        },
        "surgery": surgery,
        "grad_norm": float(session.engine.get_global_grad_norm() or 0.0),
        "replaced": sum(session.replaced.values()),
        "perf": {
            "images_per_s": images / seconds,
            "step_s": seconds,
            "data_s": data_seconds,
            "memory_mb": peak_memory_mb(),
        },
    }


def peak_memory_mb() -> float:
    """Peak memory of this rank: of its GPU where there is one, else resident, in MiB."""
    if torch.cuda.is_available() and torch.cuda.is_initialized():
        return torch.cuda.max_memory_allocated() / 2**20
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**10


def evaluate(session: Session, step: int) -> dict[str, Any]:
    """Score val on all ranks; keep the weights where the average is the best so far."""
    scores, pictures = session.evaluator.scores(session.engine.module)
    if scores["average"] > session.best.get("val", {}).get("average", -1.0):
        session.best = {"step": step, "val": scores}
        write_weights(session, "best", session.best)
    if session.ranks.first:
        write_gallery(session.run_dir, pictures)
        write_scores(session.run_dir, step, scores, session.best)
        session.tracker.images(step, pictures)
        session.tracker.note(f"step {step}: val " + describe(scores))
    return scores


def describe(scores: dict[str, Any]) -> str:
    """Scores in one line."""
    parts = [
        f"{task} {name} {value:.4f}"
        for task, figures in scores.items()
        if isinstance(figures, dict)
        for name, value in figures.items()
    ]
    return ", ".join([*parts, f"average {scores['average']:.4f}"])


def checkpoint(session: Session, step: int) -> None:
    """Write what a resume needs, and the weights as safetensors."""
    state = {"best": session.best, "surgery": session.gradients.state()}
    save_checkpoint(
        session.engine, session.run_dir / "checkpoints", step, state, session.exchange, session.recipe
    )
    write_weights(session, "last", {"step": step})


def write_weights(session: Session, name: str, figures: dict[str, Any]) -> None:
    """Write `RUN/weights/<name>/` from rank 0: every rank holds all weights under ZeRO-2."""
    if session.ranks.first:
        save_weights(session.engine.module, session.recipe, session.metas, session.run_dir / "weights" / name, figures)
