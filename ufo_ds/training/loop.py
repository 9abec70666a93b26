"""The training loop."""

from __future__ import annotations

import resource
import time
import zlib
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist

from ufo_ds.assembly import save_weights
from ufo_ds.distributed import stop
from ufo_ds.recipe import Recipe
from ufo_ds.surgery.findings import Findings
from ufo_ds.training.checkpoints import save_checkpoint
from ufo_ds.training.evaluation import InterruptedEvaluationError, write_gallery, write_scores
from ufo_ds.training.session import Session, open_session


def train(
    recipe: Recipe, run_dir: Path, *, resume: bool = False, weights: Path | None = None, command: str = ""
) -> bool:
    """Run a recipe to its last step, or to where SIGTERM asks it to stop; see `open_session` for the arguments.

    Returns:
        Whether this is rank 0, of a run that is through.
    """
    session = open_session(recipe, run_dir, resume=resume, weights=weights, command=command)
    failed = True
    try:
        through = run_steps(session)
        failed = False
    except RuntimeError:
        session.peers.explain()
        raise
    finally:
        session.close(failed)
    stop()
    return through and session.ranks.first


def run_steps(session: Session) -> bool:
    """From the session's step to the recipe's last: the batches of every task, one combined step.

    Returns:
        False where the run was asked to stop before that.
    """
    settings = session.recipe.train
    session.engine.train()
    if session.pending and not finish_step(session, session.pending, asked=False):
        return False
    for step in range(session.start_step + 1, settings.steps + 1):
        began = time.perf_counter()
        session.peers.where = f"in step {step}"
        session.schedule.step_update(step - 1)
        seed_step(session.recipe.seed, step, session.ranks.rank)
        drawn = session.engine.module.trunk.begin_step(session.recipe.seed, step, settings.steps)
        losses, replaced, data_seconds = backward_all(session, step)
        findings = session.gradients.combine()
        if not findings.empty:
            session.engine.step()
            if session.average:
                session.average.update(step)
        losses, asked = agree(session, losses, findings.skipped, replaced)
        session.gradients.observe({task: parts["loss"] * weight_of(session, task) for task, parts in losses.items()})
        record = make_record(session, step, losses, findings, time.perf_counter() - began, data_seconds)
        if drawn:
            record["trunk"] = drawn
        if not finish_step(session, record, asked):
            return False
        session.faults.check(step, session.exchange, session.run_dir)
    return True


def finish_step(session: Session, record: dict[str, Any], asked: bool) -> bool:
    """What follows an optimizer step: evaluation, log, checkpoint, where they are due. False: the run is to stop.

    An evaluation that is broken off is taken up by the next start, from a checkpoint of the step before it.
    """
    settings, step = session.recipe.train, record["step"]
    last, resumed = step == settings.steps, session.pending is not None
    session.pending = None
    if session.evaluator.sets and (last or is_due(step, settings.eval_every)):
        try:
            record["val"] = evaluate(session, step)
        except InterruptedEvaluationError:
            session.pending, asked = record, True
    if session.pending is None:
        session.tracker.log(record)
    stopped = asked and not (last and session.pending is None)
    if not resumed and (last or stopped or is_due(step, settings.checkpoint_every)):
        checkpoint(session, step)
    if stopped:
        session.tracker.note(f"stopped by SIGTERM after step {step}, its checkpoint is written; --resume goes on")
    return not stopped


def backward_all(session: Session, step: int) -> tuple[dict[str, dict[str, torch.Tensor]], int, float]:
    """All micro-batches through the model and back: this rank's mean losses by task and part, the samples that
    were replaced, and seconds spent on data.
    """
    losses: dict[str, dict[str, torch.Tensor]] = {}
    replaced, data_seconds = 0, 0.0
    micro_batches = session.recipe.train.accumulate
    for task in session.tasks:
        for micro in range(micro_batches):
            waiting = time.perf_counter()
            batch = session.next_batch(task)
            replaced += batch.replaced
            session.faults.saw(task, step, batch.sources)
            data_seconds += time.perf_counter() - waiting
            parts = session.engine(batch)
            loss = parts["loss"] * (weight_of(session, task) / micro_batches)
            session.gradients.backward(task, loss, last=micro == micro_batches - 1)
            sums = losses.setdefault(task, {})
            for name, value in parts.items():
                sums[name] = sums.get(name, 0.0) + value.detach() / micro_batches
    return losses, replaced, data_seconds


def agree(
    session: Session, losses: dict[str, dict[str, torch.Tensor]], skipped: list[str], replaced: int
) -> tuple[dict[str, dict[str, float]], bool]:
    """In one exchange: the losses averaged over the ranks, the samples replaced on all of them added to the session's
    count, and whether any rank was asked to stop. Of a skipped task one rank may lack the parts of the loss.
    """
    names = [(task, part) for task, parts in losses.items() for part in parts if part == "loss" or task not in skipped]
    values = [losses[task][part].double() for task, part in names]
    counts = torch.tensor([replaced, session.stop.asked], dtype=torch.float64, device=values[0].device)
    everything = torch.cat([torch.stack(values), counts])
    if session.ranks.world > 1:
        dist.all_reduce(everything)
    *sums, replaced_by_all, asked = everything.tolist()
    means: dict[str, dict[str, float]] = {task: {} for task in losses}
    for (task, part), value in zip(names, sums, strict=True):
        means[task][part] = value / session.ranks.world
    session.replaced += int(replaced_by_all)
    return means, asked > 0


def weight_of(session: Session, task: str) -> float:
    """The recipe's factor on a task's loss."""
    return float(getattr(session.recipe.tasks, task).weight)


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
    findings: Findings,
    seconds: float,
    data_seconds: float,
) -> dict[str, Any]:
    """The step's line of the log (docs/design.md, Log); tasks that were skipped are counted and named."""
    session.faults.count(findings.skipped)
    for task in findings.skipped:
        session.tracker.note(
            f"warning: step {step}: the {task} loss or gradient is not finite (loss {losses[task]['loss']:.4g}); the "
            f"step was taken without {task} ({session.faults.skipped[task]} so far)"
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
        "surgery": findings.as_record(),
        "grad_norm": 0.0 if findings.empty else float(session.engine.get_global_grad_norm() or 0.0),
        "replaced": session.replaced,
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
    session.peers.where = f"in the evaluation after step {step}"
    scores, pictures = session.evaluator.scores(session.model, lambda: session.stop.asked)
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
    session.peers.where = f"in the checkpoint of step {step}"
    save_checkpoint(
        session.engine,
        session.run_dir / "checkpoints",
        step,
        session.state(),
        session.exchange,
        session.recipe,
        session.shards,
        session.average,
    )
    write_weights(session, "last", {"step": step})


def write_weights(session: Session, name: str, figures: dict[str, Any]) -> None:
    """Write `RUN/weights/<name>/` from rank 0: every rank holds all weights under ZeRO-2."""
    if session.ranks.first:
        save_weights(session.model, session.asked, session.metas, session.run_dir / "weights" / name, figures)
