"""SIGTERM as a request: finish the step, save, leave. A second one ends the process at once."""

from __future__ import annotations

import os
import signal
import socket
import threading
import time
from collections.abc import Callable
from types import FrameType
from typing import Any

SAME_SECONDS = 0.5
"""Two signals within this time are one request: a cluster signals every process, and a launcher passes it on."""
TERMINATED = 128 + signal.SIGTERM
"""Exit status after a second SIGTERM."""


class StopRequest:
    """Whether somebody asked for the run to stop. Listens from `listen` to `close`, in the main thread's process.

    The first signal only sets `asked`. It is seen at once, whatever the main thread is at: a collective that hangs, a
    long write. Python's own handlers would wait for that to end.
    """

    def __init__(self) -> None:
        self.asked = False
        self._told: Callable[[], None] = lambda: None
        self._since = 0.0
        self._wire: socket.socket | None = None
        self._before: tuple[Any, int] | None = None

    def listen(self, told: Callable[[], None] = lambda: None) -> None:
        """Take SIGTERM over. `told` is called once, in a thread, with the first signal of this process."""
        self._told = told
        ours, self._wire = socket.socketpair()
        self._wire.setblocking(False)
        handler = signal.signal(signal.SIGTERM, _nothing)
        self._before = (handler, signal.set_wakeup_fd(self._wire.fileno(), warn_on_full_buffer=False))
        threading.Thread(target=self._watch, args=(ours,), daemon=True, name="SIGTERM").start()

    def ask(self) -> None:
        """Set `asked`, as a signal would."""
        self.asked = True

    def close(self) -> None:
        """Give SIGTERM back to whoever had it."""
        if self._wire is None or self._before is None:
            return
        signal.set_wakeup_fd(self._before[1])
        signal.signal(signal.SIGTERM, self._before[0])
        self._wire.close()  # which ends the thread
        self._wire = None

    def _watch(self, ours: socket.socket) -> None:
        with ours:
            while numbers := ours.recv(64):
                if signal.SIGTERM in numbers:
                    self._take(time.monotonic())

    def _take(self, now: float) -> None:
        if self._since and now - self._since > SAME_SECONDS:
            os._exit(TERMINATED)
        if not self._since:
            self._since = now
            self.asked = True
            self._told()


def _nothing(number: int, frame: FrameType | None) -> None:
    """The thread has seen the signal."""
