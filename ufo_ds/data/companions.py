"""Further samples that go into an example: which ones is known before any of them is read.

A transform that puts several samples together has, besides its call, a method `companions`. It is asked without a
byte being read, wherever somebody wants to know what a batch takes: so that all its shards are fetched in time, and the
same samples come in any process, from any start, on any number of ranks.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from ufo_ds.data.batch import Example
from ufo_ds.data.order import Order
from ufo_ds.data.schema import RawSample
from ufo_ds.data.shards import ShardSet


class Chance:
    """Random numbers that are a function of a key alone: the same on every machine, after every upgrade."""

    def __init__(self, *key: object) -> None:
        self._key = hashlib.blake2b(" ".join(map(str, key)).encode(), digest_size=16).digest()
        self._drawn = 0

    def uniform(self) -> float:
        """The next number in [0, 1)."""
        count = self._drawn.to_bytes(8, "little")
        self._drawn += 1
        bits = hashlib.blake2b(self._key + count, digest_size=8).digest()
        return (int.from_bytes(bits, "little") >> 11) / 2**53

    def below(self, count: int) -> int:
        """The next whole number in 0..count-1."""
        return int(self.uniform() * count)


@dataclass(frozen=True)
class Companion:
    """A further sample of an example, by number, and what the transform wants of it."""

    index: int
    use: Any


Near = Callable[[int], list[int]]
"""count -> numbers of so many samples whose shards are read at the same time."""


class Gathering(Protocol):
    """A transform that puts several samples together; picklable."""

    def survey(self, shards: ShardSet) -> None:
        """Called once, before all else: learn what the draws need to know of the whole split."""

    def companions(self, chance: Chance, near: Near) -> list[Companion]:
        """What this place of the stream takes besides its own sample; drawn from `chance` alone."""

    def __call__(self, raw: RawSample, companions: Sequence[tuple[RawSample, Any]] = ()) -> Example:
        """The example, of the own sample and of the companions with their uses.

        A companion that cannot be decoded is left out, and counted in `Example.left_out`.
        """


def companions_of(transform: Any, order: Order, seed: int, task: str, position: int) -> list[Companion]:
    """What an example takes besides the sample at its position; nothing where the transform takes one alone."""
    if not hasattr(transform, "companions"):
        return []
    chance = Chance("companions", seed, task, position)
    return transform.companions(chance, lambda count: _near(order, position, chance, count))


def _near(order: Order, position: int, chance: Chance, count: int) -> list[int]:
    """Samples from the window of a position: any of it but the own, so that few are of the same batch.

    None comes twice, unless the window holds fewer.
    """
    window = order.window(position)
    taken, found = [position - window.start], []
    for _ in range(count):
        if len(taken) == len(window):
            taken = []
        place = chance.below(len(window) - len(taken))
        for other in sorted(taken):
            place += place >= other
        taken.append(place)
        found.append(order.index(window.start + place))
    return found
