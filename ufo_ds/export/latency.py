"""How long one image takes, for several models that take turns."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping

SECONDS = 4.0
"""What the runs of all models together may take, roughly."""
FEWEST, MOST = 3, 25
"""Rounds, however long or short one is."""


def measure(runs: Mapping[str, Callable[[], object]]) -> tuple[dict[str, float], int]:
    """Median seconds of each run, after one to warm up; and of how many. They alternate, so that a machine which
    slows down for a while slows all of them.
    """
    for run in runs.values():
        run()
    seconds: dict[str, list[float]] = {name: [] for name in runs}
    start, rounds = time.perf_counter(), 0
    while rounds < MOST and (rounds < FEWEST or time.perf_counter() - start < SECONDS):
        for name, run in runs.items():
            began = time.perf_counter()
            run()
            seconds[name].append(time.perf_counter() - began)
        rounds += 1
    return {name: statistics.median(values) for name, values in seconds.items()}, rounds
