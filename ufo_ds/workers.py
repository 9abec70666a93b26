"""Worker processes that need no torch, with results in order, and an end in one line."""

from __future__ import annotations

import gc
import multiprocessing
import os
import signal
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from functools import partial
from types import TracebackType
from typing import TypeVar

from ufo_ds.errors import UserError

Job = TypeVar("Job")
Result = TypeVar("Result")


_AHEAD = 4
"""Jobs a process that `stream` holds."""
_BROKEN = "a worker process ended early (killed, or out of memory); run again, with fewer --workers if memory is short"


def count_cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


class Workers:
    """Processes for a `with`; on leaving it, jobs that were not begun are dropped.

    They are spawned, which is safe beside any threads, and at once, so that they have done their imports when the first
    job comes.

    Args:
        count: of processes. One or none: the work is done in this process, when its results are asked for.
    """

    def __init__(self, count: int) -> None:
        self._count = count
        self._pool: ProcessPoolExecutor | None = None
        if count > 1:
            self._pool = ProcessPoolExecutor(count, multiprocessing.get_context("spawn"), _start_worker)
            for _ in range(count):
                self._pool.submit(os.getpid)

    def __enter__(self) -> Workers:
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self._pool is not None:
            self._pool.shutdown(cancel_futures=True)
            self._pool = None
            gc.collect()  # or an exit without clean-up, as on an error, leaves the pool's semaphores behind

    def map(self, function: Callable[[Job], Result], jobs: Iterable[Job]) -> Iterator[Result]:
        """Begin with all jobs; the iterator has the results in their order.

        Args:
            function: of a module; must not depend on anything that this process has changed.
            jobs: picklable.

        Raises:
            UserError: from the iterator; a job raised it, or a process was killed. Others come as they are.
        """
        if self._pool is None:
            return map(function, jobs)
        submit = partial(self._pool.submit, function)
        try:
            return _results(deque(map(submit, jobs)), iter(()), 0)
        except BrokenProcessPool:
            raise UserError(_BROKEN) from None

    def stream(self, function: Callable[[Job], Result], jobs: Iterable[Job]) -> Iterator[Result]:
        """Like `map`, but a job is taken from `jobs` only when there are few that are not done yet."""
        if self._pool is None:
            return map(function, jobs)
        return _results(deque(), map(partial(self._pool.submit, function), jobs), _AHEAD * self._count)


def _results(futures: deque[Future], coming: Iterator[Future], ahead: int) -> Iterator:
    try:
        for future in coming:
            futures.append(future)
            if len(futures) > ahead:
                yield futures.popleft().result()
        while futures:
            yield futures.popleft().result()
    except BrokenProcessPool:
        failure = _BROKEN
    except UserError as error:
        failure = str(error)
    else:
        return
    finally:
        for future in futures:
            future.cancel()
    # Raised anew: a future's exception and its frames hold each other and the pool.
    raise UserError(failure)


def _start_worker() -> None:
    import cv2
    import numpy as np

    cv2.setNumThreads(1)
    # Once it has seen a block of this size, glibc keeps what is freed. Else it would return every mask to the system
    # and have the next one's pages given anew, a sixth of all the time.
    np.empty(2**24, np.uint8)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's to handle
    threading.Thread(target=end_with_parent, daemon=True).start()


def end_with_parent() -> None:
    """For a thread of a child process: end it when its parent is gone. A pool would wait for work for ever."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)
