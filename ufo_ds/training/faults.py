"""Steps that a task had to be left out of: counted, named, and too many in a row end the run."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ufo_ds.distributed import ObjectExchange
from ufo_ds.errors import UserError
from ufo_ds.files import replace_file

KEPT_STEPS = 3
"""Steps whose samples are named when a run stops."""
FILE = "skipped_samples.json"
_SHOWN = 6


class Faults:
    """What was skipped so far, alike on all ranks; and the samples of this rank's last batches.

    Args:
        tasks: of the run.
        limit: skipped steps in a row, of one task, that end the run.
    """

    def __init__(self, tasks: Sequence[str], limit: int) -> None:
        self.limit = limit
        self.skipped = dict.fromkeys(tasks, 0)
        """Steps of the run that were taken without the task."""
        self.in_a_row = dict.fromkeys(tasks, 0)
        """The same, since the last step with it."""
        self._samples: dict[str, dict[int, list[str]]] = {task: {} for task in tasks}

    def saw(self, task: str, step: int, sources: Sequence[Mapping[str, Any]]) -> None:
        """Remember the samples of a batch of this rank."""
        kept = self._samples[task]
        kept.setdefault(step, []).extend(str(source.get("file_name", "?")) for source in sources)
        for old in [number for number in kept if number <= step - KEPT_STEPS]:
            del kept[old]

    def count(self, skipped: Sequence[str]) -> None:
        """Take note of a step's skipped tasks."""
        for task in self.in_a_row:
            self.in_a_row[task] = self.in_a_row[task] + 1 if task in skipped else 0
            self.skipped[task] += task in skipped

    def check(self, step: int, exchange: ObjectExchange, run_dir: Path) -> None:
        """End the run, on all ranks, where a task was left out too often in a row.

        Raises:
            UserError: names the task and samples of the last batches; all of these stand in `RUN/skipped_samples.json`.
        """
        worst = max(self.in_a_row, key=lambda task: self.in_a_row[task])
        if self.in_a_row[worst] < self.limit:
            return
        by_rank = exchange.gather(self._samples[worst])
        names: list[str] = []
        if by_rank is not None:
            steps = {
                str(number): {f"rank {rank}": samples[number] for rank, samples in enumerate(by_rank)}
                for number in sorted(by_rank[0])
            }
            names = [name for samples in steps[str(step)].values() for name in samples]
            replace_file(run_dir / FILE, json.dumps({"task": worst, "steps": steps}, indent=1) + "\n")
        names = exchange.broadcast(names)
        more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
        raise UserError(
            f"step {step}: the {worst} loss or gradient was not finite in {self.in_a_row[worst]} steps in a row "
            f"(train.max_skipped); lower optimizer.lr, set train.clip, or look at the samples: "
            f"{', '.join(names[:_SHOWN])}{more} (all of the last {KEPT_STEPS} steps: {run_dir / FILE}); --resume goes "
            "on from the last checkpoint"
        )

    def state(self) -> dict[str, dict[str, int]]:
        """For a checkpoint."""
        return {"skipped": self.skipped, "in_a_row": self.in_a_row}

    def restore(self, state: Mapping[str, Mapping[str, int]]) -> None:
        """Go on from `state`."""
        self.skipped, self.in_a_row = dict(state["skipped"]), dict(state["in_a_row"])
