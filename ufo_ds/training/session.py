"""Everything a run holds, put together: ranks, engine, streams, surgery, schedule, records."""

from __future__ import annotations

import copy
import dataclasses
import logging
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from timm.scheduler import CosineLRScheduler

from ufo_ds.assembly import build_model, load_fitting, read_metas, shards_folder
from ufo_ds.command_line import write_recipe
from ufo_ds.data.batch import Batch
from ufo_ds.data.folders import fingerprint
from ufo_ds.data.schema import TaskMeta
from ufo_ds.data.stream import TaskStream
from ufo_ds.distributed import ObjectExchange, Ranks, find_device, find_ranks, limit_threads
from ufo_ds.errors import UserError
from ufo_ds.model.joint import JointModel
from ufo_ds.recipe import Recipe
from ufo_ds.surgery.methods import make_weighting
from ufo_ds.surgery.self_test import check_partitions
from ufo_ds.surgery.task_gradients import TaskGradients
from ufo_ds.surgery.zero import hold_partitions, unknown_version
from ufo_ds.tracking import LOG_NAME, Tracker, to_json, write_environment
from ufo_ds.training.announcement import announce
from ufo_ds.training.averaging import WeightAverage
from ufo_ds.training.batches import fit_batches
from ufo_ds.training.checkpoints import (
    Checkpoint,
    check_resumable,
    load_checkpoint,
    newest_checkpoint,
)
from ufo_ds.training.engine_config import engine_config, offload_device
from ufo_ds.training.evaluation import Evaluator, open_split
from ufo_ds.training.faults import Faults
from ufo_ds.training.mixing import Mixer
from ufo_ds.training.optimizer import make_optimizer, make_schedule
from ufo_ds.training.peers import Peers
from ufo_ds.training.preemption import StopRequest
from ufo_ds.training.streams import make_streams, steps_of


@dataclass
class Session:
    """A run in progress.

    `best` is the best evaluation so far (`step` and `val`, or empty); `replaced` counts the undecodable samples, of all
    ranks, that their successors stood in for. `pending` is the record of a step whose evaluation is still to come, as
    an interrupted one leaves it. `shards` has the `fingerprint` of each task's shards. `asked` is the recipe before
    batches were lowered, which the weights carry: on other data they need not be.
    """

    recipe: Recipe
    asked: Recipe
    run_dir: Path
    ranks: Ranks
    device: torch.device
    metas: dict[str, TaskMeta]
    engine: Any
    gradients: TaskGradients
    schedule: CosineLRScheduler
    streams: dict[str, TaskStream]
    evaluator: Evaluator
    exchange: ObjectExchange
    tracker: Tracker
    start_step: int
    faults: Faults
    peers: Peers
    stop: StopRequest
    shards: dict[str, str]
    mixer: Mixer
    average: WeightAverage | None = None
    best: dict[str, Any] = field(default_factory=dict)
    replaced: int = 0
    pending: dict[str, Any] | None = None

    @property
    def tasks(self) -> list[str]:
        """Names of the tasks, in the order of the steps."""
        return list(self.metas)

    @property
    def model(self) -> JointModel:
        """What is evaluated and kept: the average of the weights, or the weights themselves."""
        return self.average.model if self.average else self.engine.module

    def next_batch(self, task: str) -> Batch:
        """This rank's next batch of a task, on the device, mixed where the recipe asks for it."""
        number = self.streams[task].step
        return self.mixer(next(self.streams[task]).to(self.device), number)

    def state(self) -> dict[str, Any]:
        """Plain JSON values that a resume needs beside the engine's own."""
        return {
            "best": self.best,
            "replaced": self.replaced,
            "faults": self.faults.state(),
            "surgery": self.gradients.state(),
            "pending": to_json(self.pending),
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Go on from `state`."""
        self.best, self.replaced, self.pending = state["best"], state["replaced"], state["pending"]
        self.faults.restore(state["faults"])
        self.gradients.restore(state["surgery"])

    def close(self, failed: bool) -> None:
        """End readers and records, and tell the other ranks. Process groups end with the process."""
        self.peers.leave(failed)
        self.stop.close()
        for stream in self.streams.values():
            stream.close()
        self.tracker.close(failed=failed)


def open_session(
    recipe: Recipe, run_dir: Path, *, resume: bool = False, weights: Path | None = None, command: str = ""
) -> Session:
    """Start or resume a run.

    Args:
        recipe: checked.
        run_dir: where it writes. Without `resume` it must not hold a run.
        resume: go on from the newest checkpoint, or start where there is none yet.
        weights: a folder of weights to start from; heads that do not fit are made anew.
        command: for `environment.json`.

    Raises:
        UserError: everything that a user can mend, before the first step.
    """
    ranks = find_ranks()
    checkpoint = _find_checkpoint(run_dir, resume, ranks)
    threads = limit_threads(ranks, recipe.train.threads)
    metas = read_metas(recipe)
    recipe.tasks.names = list(metas)
    asked = copy.deepcopy(recipe)
    lowered = fit_batches(recipe, metas, ranks.world)
    recipe.train.steps = recipe.train.steps or steps_of(recipe, metas, ranks.world)
    shards = {name: fingerprint(meta) for name, meta in metas.items()}
    if checkpoint:
        check_resumable(checkpoint, recipe, shards, ranks.world)
    settings = engine_config(recipe, list(metas))
    make_weighting(recipe.surgery, list(metas))  # what is wrong with it is said before anything is started
    torch.manual_seed(recipe.seed)  # every rank makes the same model; DeepSpeed broadcasts rank 0's all the same
    model = build_model(recipe, metas)
    found = load_fitting(model, weights) if weights else None
    start_step = checkpoint.step if checkpoint else 0
    streams = make_streams(recipe, metas, ranks, start_step * recipe.train.accumulate)
    sets = open_split(recipe, metas, "val")

    device, exchange = _start_ranks(ranks)
    stop = StopRequest()
    peers = Peers(exchange, stop.ask)
    exchange.require_same(shards, f"the shards of {shards_folder(recipe)}")
    evaluator = Evaluator(recipe, metas, sets, exchange, device)
    optimizer_model = model.to(device)
    engine, schedule = _make_engine(optimizer_model, recipe, settings)
    gradients = _make_surgery(engine, recipe, list(metas))
    average = _make_average(engine.module, recipe, metas, device)
    state = load_checkpoint(engine, checkpoint, average) if checkpoint else None
    if ranks.first:
        run_dir.mkdir(parents=True, exist_ok=True)
        write_recipe(recipe, run_dir / "recipe.yaml")
        write_environment(
            run_dir, command, world_size=ranks.world, gpus=_gpu_names(device), resumed=checkpoint is not None
        )
    tracker = Tracker(
        run_dir,
        total_steps=recipe.train.steps,
        tasks=list(metas),
        config=dataclasses.asdict(recipe),
        enabled=ranks.first,
        wandb_mode=recipe.tracking.wandb,
        project=recipe.tracking.project,
        name=recipe.tracking.name,
        start_step=start_step - bool(state and state["pending"]),
    )
    session = Session(
        recipe,
        asked,
        run_dir,
        ranks,
        device,
        metas,
        engine,
        gradients,
        schedule,
        streams,
        evaluator,
        exchange,
        tracker,
        start_step,
        Faults(list(metas), recipe.train.max_skipped),
        peers,
        stop,
        shards,
        Mixer(recipe, metas, ranks.rank),
        average,
    )
    if state:
        session.restore(state)
    stop.listen(peers.ask_stop)
    announce(session, model, threads, found, checkpoint)
    for line in lowered:
        tracker.note(line)
    return session


def _find_checkpoint(run_dir: Path, resume: bool, ranks: Ranks) -> Checkpoint | None:
    if run_dir.exists() and not run_dir.is_dir():
        raise UserError(f"{run_dir}: is a file; --run takes a folder, which is made where absent")
    folder, log = run_dir / "checkpoints", run_dir / LOG_NAME
    # An empty log is a start that failed before its first step: nothing that another start could overwrite.
    if not resume and (any(folder.glob("step-*")) or (log.exists() and log.stat().st_size)):
        raise UserError(f"{run_dir}: holds a run already; --resume goes on with it, another --run starts anew")
    found, damaged = newest_checkpoint(folder)
    for line in damaged if ranks.first else ():
        print(f"warning: {line}; it is passed over", file=sys.stderr, flush=True)
    return found


def _start_ranks(ranks: Ranks) -> tuple[torch.device, ObjectExchange]:
    device = find_device(ranks)
    if ranks.first and device.type == "cpu":
        print(
            "starting DeepSpeed on the CPU; its first start on a machine compiles a communication op, 1-2 minutes",
            flush=True,
        )
    import deepspeed
    from deepspeed.utils import logger

    logger.setLevel(logging.WARNING)
    deepspeed.init_distributed(dist_backend="nccl" if device.type == "cuda" else "gloo")
    return device, ObjectExchange(ranks)


def _make_engine(model: torch.nn.Module, recipe: Recipe, settings: dict[str, Any]) -> tuple[Any, CosineLRScheduler]:
    import deepspeed

    optimizer = make_optimizer(model, recipe.optimizer, offload=offload_device(settings) == "cpu")
    schedule = make_schedule(optimizer, recipe.optimizer, recipe.train.steps)
    engine, *_ = deepspeed.initialize(model=model, optimizer=optimizer, config=settings)
    return engine, schedule


def _make_average(
    model: JointModel, recipe: Recipe, metas: dict[str, TaskMeta], device: torch.device
) -> WeightAverage | None:
    if not recipe.train.ema:
        return None
    bare = dataclasses.replace(recipe, model=recipe.model.bare())
    return WeightAverage(model, build_model(bare, metas).to(device), recipe.train.ema)


def _make_surgery(engine: Any, recipe: Recipe, tasks: list[str]) -> TaskGradients:
    partitions = hold_partitions(engine)
    warning = unknown_version()
    if warning and partitions.rank == 0:
        print(f"warning: {warning}", flush=True)
    gradients = TaskGradients(partitions, tasks, recipe.surgery, recipe.seed, engine.module.trunk.depth_of_parameters())
    if recipe.surgery.self_test:
        check_partitions(partitions, min(2, recipe.train.accumulate))
    return gradients


def _gpu_names(device: torch.device) -> list[str]:
    if device.type != "cuda":
        return []
    return [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
