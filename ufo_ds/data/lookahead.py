"""Which shards come next, and a thread that fetches them meanwhile."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence

MAX_STEPS = 20_000
"""Batches looked at in one go."""


def coming_shards(
    samples_of: Callable[[int], Sequence[int]],
    shards_of: Callable[[Sequence[int]], list[int]],
    numbers: range,
    count: int,
) -> list[int]:
    """The first `count` different shards of some batches, in the order in which they are needed.

    Args:
        samples_of: number of a batch -> its samples; none after the last batch.
        shards_of: samples -> the shard of each.
        numbers: of the batches, as far as to look.
        count: of shards; there must be so many.
    """
    found: dict[int, None] = {}
    for number in numbers:
        samples = samples_of(number)
        found.update(dict.fromkeys(shards_of(samples)))
        if len(found) >= count or not len(samples):
            break
    return list(found)[:count]


class Prefetcher:
    """Brings the shards of a plan, one after another, in a thread that lives as long as there is something to do.

    An error ends the plan in silence: whoever needs that shard meets it again. Pickled, it is a new one.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._plan: list[Callable[[], None]] = []
        self._thread: threading.Thread | None = None

    def follow(self, plan: Sequence[Callable[[], None]]) -> None:
        """Do this from now on, and no longer what was planned before."""
        with self._lock:
            self._plan = list(plan)
            if self._plan and self._thread is None:
                self._thread = threading.Thread(target=self._work, name="prefetch", daemon=True)
                self._thread.start()

    def _work(self) -> None:
        while True:
            with self._lock:
                if not self._plan:
                    self._thread = None
                    return
                bring = self._plan.pop(0)
            try:
                bring()
            except Exception:  # a thread has nobody to tell
                with self._lock:
                    self._plan = []

    def __reduce__(self) -> tuple:
        return Prefetcher, ()
