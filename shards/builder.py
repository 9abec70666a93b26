"""A build from end to end: plan every task, pack what is not yet packed, finish each task, report."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path

from shards.folder import TaskFolder, locked
from shards.layouts import SplitPlan, TaskPlan, check_choices, load_layout
from shards.pack import ShardResult, make_shard
from shards.plan import ShardLimits, ShardPlan, plan_fingerprint, plan_shards
from shards.pool import run_jobs
from shards.summary import print_summary
from ufo_ds.data.schema import TASKS, Rejection, SplitMeta, TaskMeta
from ufo_ds.errors import UserError, printable


@dataclass(frozen=True)
class Options:
    """What to build; `tasks` None means all that `raw` has, `choices` are the layout's own options by name."""

    layout: str
    raw: Path
    out: Path
    tasks: tuple[str, ...] | None
    workers: int
    limits: ShardLimits
    choices: dict[str, str] = field(default_factory=dict)


class TaskBuild:
    """One task on its way from plan to `meta.json`."""

    def __init__(self, plan: TaskPlan, options: Options) -> None:
        self.plan = plan
        self.options = options
        self.folder = TaskFolder(options.out, plan.task)
        self.shards = {split: self._cut(split) for split in plan.splits}
        self.fingerprint = plan_fingerprint(plan, self.shards)
        self.results: dict[str, list[ShardResult]] = {}
        self.meta = self.folder.finished(self.fingerprint)
        self.unchanged = self.meta is not None

    def _cut(self, split: str) -> list[ShardPlan]:
        options = self.options
        return plan_shards(self.plan, split, self.folder.path, options.raw, options.limits)

    def open_splits(self) -> list[str]:
        """The splits whose shards are still to be made."""
        return [] if self.unchanged else [split for split in self.plan.splits if split not in self.results]

    def take(self, split: str, results: list[ShardResult]) -> None:
        """Accept a split's results; where a shard came out empty, cut the split anew without the rejected."""
        empty = any(result.info is None for result in results)
        if empty and any(result.info for result in results):
            # Shards are numbered without holes, and nobody knew before decoding that this would be one.
            self.plan.splits[split] = _without(self.plan.splits[split], _rejected(results))
            self.shards[split] = self._cut(split)
        else:
            self.results[split] = results

    def finish(self) -> None:
        """Write `meta.json`; `UserError` where a split holds nothing."""
        splits = {split: _split_meta(self.plan.splits[split], self.results[split]) for split in self.plan.splits}
        for name, split in splits.items():
            if not split.samples:
                raise UserError(f"{self.plan.task}: {_nothing(name, split)}; no {self.plan.task}/meta.json is written")
        self.meta = TaskMeta(self.plan.task, self.plan.layout, self.plan.classes, splits)
        self.folder.finish(self.fingerprint, [result for part in self.results.values() for result in part], self.meta)


def build(options: Options) -> None:
    """Build what the options say.

    Raises:
        UserError: labels unusable as a whole, a split without a single sound sample, no room, no rights.
    """
    options = replace(options, raw=options.raw.absolute())
    plans = list(_plan_tasks(options))
    try:
        with locked(options.out):
            builds = [TaskBuild(plan, options) for plan in plans]
            _pack(builds, options.workers)
            failures = _finish(builds)
    except OSError as error:
        raise UserError(f"{error.filename or options.out}: cannot be written ({error.strerror})") from None
    print_summary([build for build in builds if build.meta], options.out)
    if failures:
        raise UserError("; ".join(failures))


def _plan_tasks(options: Options) -> Iterable[TaskPlan]:
    """The plans of the tasks that are there; prints what is not."""
    layout = load_layout(options.layout)
    check_choices(layout, options.layout, options.choices)
    if not options.raw.is_dir():
        raise UserError(f"--raw {options.raw}: no such folder; it must hold {layout.EXPECTS}")
    absent = []
    for task in options.tasks or TASKS:
        try:
            plan = layout.plan_task(options.raw, task, **options.choices)
        except OSError as error:
            place = error.filename or options.raw
            raise UserError(f"{place}: cannot be read ({error.strerror}); mend the rights") from None
        if plan is not None:
            for note in plan.notes:
                print(f"note: {note}")
            yield plan
        elif options.tasks:
            raise UserError(f"--tasks {task}: --raw {options.raw} has none of its folders")
        else:
            absent.append(task)
    if len(absent) == len(TASKS):
        raise UserError(f"--raw {options.raw}: nothing to build, it must hold {layout.EXPECTS}")
    for task in absent:
        print(f"note: {task}: skipped, none of its folders is there")


def _pack(builds: list[TaskBuild], workers: int) -> None:
    """Make all open shards; all tasks share one pool and one progress bar."""
    for build in builds:
        if not build.unchanged:
            build.folder.begin()
    while parts := [(build, split) for build in builds for split in build.open_splits()]:
        jobs = [(shard, build.folder.known(shard.name)) for build, split in parts for shard in build.shards[split]]
        total = sum(len(shard.samples) for shard, _ in jobs)
        results = iter(run_jobs(make_shard, jobs, workers, total, "packing"))
        for build, split in parts:
            build.take(split, [next(results) for _ in build.shards[split]])


def _finish(builds: list[TaskBuild]) -> list[str]:
    """Finish every task that can be; returns what went wrong with the others."""
    failures = []
    for build in builds:
        try:
            if not build.unchanged:
                build.finish()
        except UserError as error:
            failures.append(str(error))
    return failures


def _rejected(results: list[ShardResult]) -> list[Rejection]:
    return [rejection for result in results for rejection in result.rejected]


def _without(plan: SplitPlan, rejected: list[Rejection]) -> SplitPlan:
    names = {rejection.file for rejection in rejected}
    samples = [sample for sample in plan.samples if sample.file_name not in names]
    return replace(plan, samples=samples, rejected=plan.rejected + rejected)


def _split_meta(plan: SplitPlan, results: list[ShardResult]) -> SplitMeta:
    rejected = sorted(plan.rejected + _rejected(results), key=lambda rejection: rejection.file)
    shards = [result.info for result in results if result.info]
    samples = sum(shard.samples for shard in shards)
    assert samples + len(rejected) == len(plan.samples) + len(plan.rejected)
    return SplitMeta(plan.labelled, samples + len(rejected), samples, shards, rejected, plan.unmatched)


def _nothing(name: str, split: SplitMeta) -> str:
    if not split.found:
        return f"the {name} split's folder is empty; put its files there, or remove the folder and its list"
    first = split.rejected[0]
    problem = f"none of the {split.found} files of the {name} split can be used"
    return f"{problem} (the first: {printable(first.file)}: {first.reason})"
