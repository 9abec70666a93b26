"""How a start that waits for downloads speaks: a line now and then, from one process of a machine."""

from __future__ import annotations

import os
import sys
import threading
import time

from tqdm import tqdm

FIRST_SECONDS, EVERY_SECONDS = 3.0, 10.0
"""Until the first line, and between two."""


class Progress:
    """Lines on stderr with what is done, the speed and the time left.

    Args:
        label: what is fetched.
        total: of `unit`.
        unit: `bytes`, shown as MiB, or `files`.
    """

    def __init__(self, label: str, total: int, unit: str = "bytes") -> None:
        self._label, self._total = label, total
        self._scale, self._unit = (2**20, "MiB") if unit == "bytes" else (1, unit)
        self._began = time.monotonic()
        self._next = self._began + FIRST_SECONDS
        self._done = 0
        self._lock = threading.Lock()

    def add(self, count: int) -> None:
        """So much more has come."""
        with self._lock:
            # What is fetched a second time counts, too: never more than all.
            self._done = min(self._done + count, self._total)
            now = time.monotonic()
            if now < self._next:
                return
            self._next = now + EVERY_SECONDS
            rate = self._done / (now - self._began)
            left = tqdm.format_interval((self._total - self._done) / rate) if rate else "?"
            done, total, speed = (value / self._scale for value in (self._done, self._total, rate))
            self.say(f"{done:.1f} of {total:.1f} {self._unit}, {speed:.1f} {self._unit}/s, ETA {left}")

    def say(self, text: str) -> None:
        """A line now, if this is the first rank of its machine."""
        if os.environ.get("LOCAL_RANK", "0") == "0":
            print(f"fetching {self._label}: {text}", file=sys.stderr, flush=True)
