"""How a run speaks on the terminal: a progress bar, or plain lines where the output goes to a file."""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Mapping, Sequence
from typing import Any

from tqdm import tqdm

PLAIN_SECONDS = 30.0
"""Time between two progress lines where there is no terminal to draw a bar on."""

_BAR = "{n_fmt}/{total_fmt} |{bar:20}| {desc} [{elapsed}<{remaining}]"


class Terminal:
    """Shows the progress of a run.

    Args:
        total_steps: of the whole run.
        start_step: the steps that an earlier start of the run has taken.
        tasks: their losses are shown, in this order.
    """

    def __init__(self, total_steps: int, start_step: int, tasks: Sequence[str]) -> None:
        self._total, self._tasks = total_steps, list(tasks)
        self._first: tuple[int, float] | None = None
        self._spoke = -math.inf
        self._bar: tqdm | None = None
        if sys.stderr.isatty():
            # smoothing=0: the mean over the whole run, so that an evaluation does not throw the ETA about.
            self._bar = tqdm(total=total_steps, initial=start_step, bar_format=_BAR, smoothing=0,
                             dynamic_ncols=True)

    def show(self, row: Mapping[str, Any]) -> None:
        """Show a step's JSON object."""
        step, summary = row["step"], self._summary(row)
        if self._bar is not None:
            self._bar.set_description_str(summary, refresh=False)
            self._bar.update(step - self._bar.n)
        elif time.monotonic() - self._spoke >= PLAIN_SECONDS or step == self._total:
            self._spoke = time.monotonic()
            self.note(f"step {step}/{self._total}  {summary}  ETA {self._remaining(step)}")

    def note(self, text: str) -> None:
        """Print a line on stdout, above the bar where there is one."""
        tqdm.write(text)
        sys.stdout.flush()

    def close(self) -> None:
        """Leave the bar as it stands."""
        if self._bar is not None:
            self._bar.close()

    def _summary(self, row: Mapping[str, Any]) -> str:
        losses = row.get("loss", {})
        parts = [f"{task} {_text(losses[task])}" for task in self._tasks if task in losses]
        speed = row.get("perf", {}).get("images_per_s")
        return "  ".join(parts if speed is None else [*parts, f"{speed:.1f} images/s"])

    def _remaining(self, step: int) -> str:
        # Counted from the end of the first step, which is slow: it compiles, and the workers start.
        now = time.monotonic()
        if self._first is None:
            self._first = (step, now)
        first_step, began = self._first
        if step == first_step:
            return "?"
        return tqdm.format_interval((now - began) / (step - first_step) * (self._total - step))


def _text(value: float | None) -> str:
    return "nan" if value is None else f"{value:.3g}"
