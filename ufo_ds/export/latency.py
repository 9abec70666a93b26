"""How long one image takes, for several models that take turns."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping

SECONDS = 4.0
"""What the runs of all models together may take, roughly; at least one each, at most `MAX_ROUNDS`."""
MAX_ROUNDS = 25


def measure(runs: Mapping[str, Callable[[], object]]) -> tuple[dict[str, float], int]:
    """Median seconds of each run, after one to warm up; and of how many. They alternate, so that a machine which
    slows down for a while slows all of them.
    """
    began = time.perf_counter()
    for run in runs.values():
        run()
    once = time.perf_counter() - began
    rounds = min(MAX_ROUNDS, max(1, int(SECONDS / once)))
    seconds: dict[str, list[float]] = {name: [] for name in runs}
    for _ in range(rounds):
        for name, run in runs.items():
            began = time.perf_counter()
            run()
            seconds[name].append(time.perf_counter() - began)
    return {name: statistics.median(values) for name, values in seconds.items()}, rounds
