"""Reader processes: batches made by number in other processes, handed over in order."""

from __future__ import annotations

import ctypes
import itertools
import multiprocessing
import os
import re
import signal
import sys
import threading
import warnings
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import closing, contextmanager, suppress
from multiprocessing.context import BaseContext, ForkServerProcess
from multiprocessing.util import Finalize
from typing import Any

import cv2
import torch
from torch.utils.data import DataLoader, Dataset, get_worker_info

from ufo_ds.data.batch import Batch
from ufo_ds.data.parcels import AHEAD, Parcel, Receiver, Sender
from ufo_ds.errors import UserError
from ufo_ds.workers import end_with_parent

MAX_DEATHS = 3
"""So many in a row are no accident."""
_KEPT_BYTES = 128 << 20
_START_SECONDS = 10
_M_TRIM_THRESHOLD, _M_MMAP_MAX = -1, -4  # of malloc.h
_DEATH = re.compile(r"DataLoader worker \(pid.*")


def read_batches(
    make: Callable[[int], Batch], first: int, stop: int | None, workers: int, module: str
) -> Generator[Batch, None, None]:
    """The batches with the numbers from `first` up to `stop`, in order. Closing the generator ends its processes.

    The batches do not depend on the number of workers, and the random state of this process is left alone. A reader
    that is killed costs a line on stderr: all are started anew, at the batch that comes next.

    Args:
        make: number -> batch; picklable, a pure function up to its use of torch's global generator.
        first: number of the first batch.
        stop: the number after the last one; None: there is no last one.
        workers: processes that make batches ahead; 0 makes each in this process when it is asked for.
        module: one that the processes will need, imported once for all of them.

    Raises:
        UserError: that `make` raised, in whichever process; or readers were killed `MAX_DEATHS` times without one batch
            in between.
    """
    deaths = 0
    while stop is None or first < stop:
        numbers = itertools.count(first) if stop is None else range(first, stop)
        try:
            with closing(_read(make, numbers, workers, module)) as batches:
                for batch in batches:
                    yield batch
                    first, deaths = first + 1, 0
        except _ReaderDiedError as death:
            deaths += 1
            if deaths == MAX_DEATHS:
                remedy = "if memory or /dev/shm ran out, lower data.workers or the batch size"
                raise UserError(f"a reader process ended early, {deaths} times in a row ({death}); {remedy}") from None
            print(f"warning: a reader process ended early ({death}); readers start anew", file=sys.stderr, flush=True)


class _ReaderDiedError(Exception):
    """A reader process was killed."""


def _read(
    make: Callable[[int], Batch], numbers: Iterable[int], workers: int, module: str
) -> Generator[Batch, None, None]:
    processes: dict[str, Any] = {}
    if workers:
        processes = {"multiprocessing_context": _context(module), "worker_init_fn": _start_reader}
        processes["prefetch_factor"] = AHEAD
    # A reader more than cores is the recipe's choice, and would be told anew for every stream and evaluation.
    warnings.filterwarnings("ignore", "This DataLoader will create", UserWarning)
    # With a generator of its own the loader draws its seed from there, not from the training's.
    loader = DataLoader(
        _Parcels(make),
        batch_size=None,
        sampler=numbers,
        num_workers=workers,
        collate_fn=_unchanged,
        generator=torch.Generator(),
        **processes,
    )
    receiver = Receiver(pin=torch.cuda.is_initialized())
    try:
        for parcel in loader:
            if isinstance(parcel, UserError):
                raise parcel
            yield receiver.unpack(parcel)
    except (RuntimeError, ConnectionError, EOFError) as error:
        # A reader that dies while a batch's memory is handed over shows as a broken connection.
        death = _DEATH.search(str(error))
        if isinstance(error, RuntimeError) and not death:
            raise
        raise _ReaderDiedError(death.group() if death else str(error)) from error


class _Parcels(Dataset):
    """Batches by number, packed where they are made in a process of their own.

    A `UserError` is a value too: raised, it would come with tracebacks.
    """

    def __init__(self, make: Callable[[int], Batch]) -> None:
        self.make = make
        self._sender = Sender()

    def __getitem__(self, number: int) -> Parcel | Batch | UserError:
        try:
            with torch.random.fork_rng(devices=[]), _one_thread():
                batch = self.make(number)
        except UserError as error:
            return error
        return self._sender.pack(batch) if get_worker_info() else batch


@contextmanager
def _one_thread() -> Iterator[None]:
    """For work in the training process itself: images are small, and waiting for a second thread on cores that
    other ranks hold takes up to 30 ms a batch.
    """
    threads = torch.get_num_threads(), cv2.getNumThreads()
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads[0])
        cv2.setNumThreads(threads[1])


def _context(module: str) -> BaseContext:
    """How processes start: forked from a clean server process that has imported what they need.

    A fork of the training process would copy it in the middle of what its other threads (gloo, NCCL, CUDA,
    wandb) are at, with their locks held for ever, and its open connections, so that peers would not notice
    its end. Spawned processes import everything anew, each of them. Measured, first batch of two readers on
    two cores: fork 0.3 s, spawn 11 s, fork server 3.7 s and 0.25 s for every further stream.
    """
    context = multiprocessing.get_context("forkserver")
    modules = ["ufo_ds.data.reader_signals", "cv2", "PIL.Image", "torchvision.transforms.v2", __name__, module]
    context.set_forkserver_preload([name for name in modules if name != "__main__"])
    return context


def _end_readers() -> None:
    """At exit, before the readers' semaphores are taken down: one that is still starting would look for them."""
    readers = [child for child in multiprocessing.active_children() if isinstance(child, ForkServerProcess)]
    for reader in readers:
        reader.terminate()  # of one that starts, as soon as it has: see `reader_signals`
    for reader in readers:
        reader.join(_START_SECONDS)


Finalize(None, _end_readers, exitpriority=100)


def _start_reader(worker: int) -> None:
    # The loader limits torch to one thread in its workers, but knows nothing of OpenCV.
    cv2.setNumThreads(1)
    _keep_memory()
    # The loader's own watch looks for the fork server, which lives as long as any reader does.
    for watch in (end_with_parent, _end_on_request):
        threading.Thread(target=watch, daemon=True).start()


def _keep_memory() -> None:
    """Let glibc keep up to `_KEPT_BYTES` of freed memory for the next picture, instead of returning it.

    Every picture needs megabytes for a moment; memory that is new costs a page fault every 4 KiB. Other C libraries
    do as they like.
    """
    with suppress(OSError, AttributeError):
        library = ctypes.CDLL(None)
        library.mallopt(_M_TRIM_THRESHOLD, _KEPT_BYTES)
        library.mallopt(_M_MMAP_MAX, 0)


def _end_on_request() -> None:
    """SIGTERM from the training process ends a reader, the same from anybody else does not (see `reader_signals`)."""
    training = multiprocessing.parent_process().pid
    while signal.sigwaitinfo([signal.SIGTERM]).si_pid != training:
        pass
    os._exit(0)


def _unchanged(parcel: Any) -> Any:
    return parcel
