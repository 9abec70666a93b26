"""Files of another machine: attempts, bounds and checks around whatever fetches them."""

from __future__ import annotations

import hashlib
import random
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Protocol, TypeVar

from ufo_ds.data.schema import ShardInfo
from ufo_ds.errors import UserError

ATTEMPTS = 6
"""Tries of one file while what goes wrong may pass."""
FIRST_PAUSE, LONGEST_PAUSE = 0.5, 30.0
"""Seconds between two tries: doubled from the first on, or what the server asks for, up to the longest."""
STALL_SECONDS = 60.0
"""Silence after which a connection or a command counts as dead."""
CHUNK = 1 << 20
"""Bytes read at a time."""

T = TypeVar("T")


class FetchError(Exception):
    """A file could not be fetched this time.

    Attributes:
        passing: another try may help.
        absent: the other side says that there is no such file.
        remedy: what the user can do.
        pause: seconds that the other side asks to wait.
    """

    def __init__(self, reason: str, remedy: str, *, passing: bool = False, absent: bool = False, pause: float = 0.0):
        super().__init__(reason)
        self.remedy, self.passing, self.absent, self.pause = remedy, passing, absent, pause


class AbsentError(UserError):
    """The other side says that there is no such file."""


@dataclass
class Body:
    """What comes back: `chunks` from byte `start` of the file on; its whole `size` in bytes where it is announced."""

    start: int
    size: int | None
    chunks: Iterator[bytes]


class Fetcher(Protocol):
    """Opens files below one remote folder; picklable."""

    def place(self, name: str) -> str:
        """The address of a file for messages, without secrets."""

    def open(self, name: str, start: int) -> AbstractContextManager[Body]:
        """Open a file, from byte `start` on where that is possible. Raises `FetchError`, also while it is read."""


def fetch_bytes(fetcher: Fetcher, name: str, limit: int) -> bytes:
    """A whole small file.

    Raises:
        UserError: it cannot be fetched, or has more than `limit` bytes.
    """

    def attempt() -> bytes:
        with fetcher.open(name, 0) as body:
            data = bytearray()
            for chunk in body.chunks:
                data += chunk
                if len(data) > limit:
                    raise FetchError(f"more than {limit} bytes", "this is not what shards/build.py wrote")
            if body.size not in (None, len(data)):
                raise _broken_off(len(data), body.size)
            return bytes(data)

    return _retry(fetcher, name, attempt)


def fetch_shard(
    fetcher: Fetcher, name: str, info: ShardInfo, write: Callable[[int, bytes], None], count: Callable[[int], None]
) -> None:
    """A shard, checked by the size and the SHA-256 of `meta.json`; never more bytes than it should have.

    What is broken off goes on where it was, if the other side can; other content is fetched once more.

    Args:
        fetcher: of the folder.
        name: of the file in it.
        info: what `meta.json` says of it.
        write: takes an offset and bytes; offsets ascend, but may start anew from 0.
        count: told of every number of bytes that came.

    Raises:
        UserError: it cannot be fetched, or its content is another.
    """
    for _ in range(2):
        transfer = _Transfer(fetcher, name, info.bytes, write, count)
        _retry(fetcher, name, transfer.go_on)
        if transfer.whole and transfer.digest.hexdigest() == info.sha256:
            return
    what = "its content is not" if transfer.whole else "its size is not"
    raise UserError(
        f"{fetcher.place(name)}: fetched twice, and {what} what meta.json says; upload shards, indexes and meta.json "
        "of one build"
    )


class _Transfer:
    """A shard on its way, over several attempts."""

    def __init__(
        self, fetcher: Fetcher, name: str, size: int, write: Callable[[int, bytes], None], count: Callable[[int], None]
    ) -> None:
        self.fetcher, self.name, self.size, self.write, self.count = fetcher, name, size, write, count
        self.done, self.digest, self.whole = 0, hashlib.sha256(), False

    def go_on(self) -> None:
        """Fetch what is missing; `whole` is left False where the file is not of the right size."""
        with self.fetcher.open(self.name, self.done if self.done < self.size else 0) as body:
            if body.start != self.done:
                self.done, self.digest = 0, hashlib.sha256()
            if body.size not in (None, self.size):
                return
            for chunk in body.chunks:
                if self.done + len(chunk) > self.size:
                    return
                self.write(self.done, chunk)
                self.digest.update(chunk)
                self.done += len(chunk)
                self.count(len(chunk))
        if self.done < self.size:
            raise _broken_off(self.done, self.size)
        self.whole = True


def _broken_off(done: int, size: int) -> FetchError:
    reason = f"breaks off after {done} of {size} bytes"
    return FetchError(reason, "look at the server or the connection, or upload the file again", passing=True)


def _retry(fetcher: Fetcher, name: str, attempt: Callable[[], T]) -> T:
    for number in range(1, ATTEMPTS + 1):
        try:
            return attempt()
        except FetchError as error:
            if not error.passing or number == ATTEMPTS:
                kind = AbsentError if error.absent else UserError
                tries = f" ({number} attempts)" if number > 1 else ""
                raise kind(f"{fetcher.place(name)}: {error}{tries}; {error.remedy}") from None
            pause = max(FIRST_PAUSE * 2 ** (number - 1) * random.uniform(0.75, 1.25), error.pause)
            time.sleep(min(pause, LONGEST_PAUSE))
    raise AssertionError
