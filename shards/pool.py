"""Many jobs in parallel processes under one progress bar."""

from __future__ import annotations

import gc
import multiprocessing
import signal
import sys
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_EXCEPTION, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from multiprocessing.sharedctypes import Synchronized
from multiprocessing.synchronize import Event
from typing import TypeVar

from ufo_ds.errors import UserError
from ufo_ds.workers import end_with_parent

Job = TypeVar("Job")
Result = TypeVar("Result")
Tick = Callable[[int], object]
"""Called by a job with the number of units done since the last call."""

_done: Synchronized
_stop: Event


def run_jobs(
    function: Callable[[Job, Tick], Result], jobs: Sequence[Job], workers: int, total: int, title: str
) -> list[Result]:
    """Run `function` on every job; results in the order of `jobs`. One worker means: in this process.

    Args:
        function: a module-level function of a job and a `Tick`.
        jobs: picklable.
        workers: processes at most.
        total: images in all jobs together, for the progress bar.
        title: of the bar.

    Raises:
        UserError: a job raised it, or a process died.
        OSError: a job raised it.
    """
    from tqdm import tqdm

    interval = 0.2 if sys.stderr.isatty() else 5.0
    with tqdm(total=total, unit="img", desc=title, mininterval=interval, disable=not total) as bar:
        if min(workers, len(jobs)) <= 1:
            return [function(job, bar.update) for job in jobs]
        try:
            return _in_processes(function, jobs, min(workers, len(jobs)), bar.update)
        except UserError as error:
            failure: Exception = UserError(str(error))
        except OSError as error:
            failure = OSError(error.errno, error.strerror, error.filename)
        # Raised anew: a future's exception and its frames hold each other and the pool, and an exit without
        # clean-up, as on an error, would leave the pool's semaphores behind.
        gc.collect()
        raise failure


def _in_processes(
    function: Callable[[Job, Tick], Result], jobs: Sequence[Job], workers: int, advance: Tick
) -> list[Result]:
    # Spawned, not forked: the progress bar has a thread, and its locks must not be copied in whatever state.
    context = multiprocessing.get_context("spawn")
    done, stop = context.Value("Q", 0), context.Event()
    executor = ProcessPoolExecutor(workers, context, initializer=_start_worker, initargs=(done, stop))
    try:
        futures = [executor.submit(_work, function, job) for job in jobs]
        _watch(futures, done, advance)
        return [future.result() for future in futures]
    except BrokenProcessPool:
        problem = "a worker process died (out of memory?)"
        raise UserError(f"{problem}; run again with fewer --workers, finished shards are kept") from None
    finally:
        # On an error the jobs not begun are dropped, and those begun end at their next tick.
        stop.set()
        executor.shutdown(cancel_futures=True)


def _watch(futures: list[Future], done: Synchronized, advance: Tick) -> None:
    seen, pending = 0, set(futures)
    while pending:
        finished, pending = wait(pending, timeout=0.2, return_when=FIRST_EXCEPTION)
        seen, before = done.value, seen
        advance(seen - before)
        for future in finished:
            future.result()


def _start_worker(done: Synchronized, stop: Event) -> None:
    global _done, _stop
    _done, _stop = done, stop
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's to handle
    threading.Thread(target=end_with_parent, daemon=True).start()


def _work(function: Callable[[Job, Tick], Result], job: Job) -> Result:
    return function(job, _tick)


def _tick(units: int) -> None:
    with _done.get_lock():
        _done.value += units
    if _stop.is_set():
        raise UserError("stopped, because another job failed")
