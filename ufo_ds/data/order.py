"""The order of samples: pure functions of (seed, task, epoch).

Randomness is the raw output of numpy's PCG64 under a `SeedSequence`, sorted. Numpy promises both streams for
good (NEP 19), while the methods of its `Generator` may change between versions: so an order is the same on
every machine and after an upgrade, and a resume goes on where it was.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Sequence

import numpy as np


def shuffled(shard_sizes: Sequence[int], seed: int, task: str, epoch: int, window: int) -> np.ndarray:
    """Every sample once, reading only a few shards at a time.

    Shards are permuted, then samples within windows of `window` consecutive shards of that permutation.

    Args:
        shard_sizes: samples in each shard.
        seed: of the run.
        task: name; tasks have orders of their own.
        epoch: from 0.
        window: shards, 1 or more.

    Returns:
        int64 [N], a permutation of the sample numbers.
    """
    bits = _bits(seed, task, epoch)
    ends = np.cumsum(shard_sizes)
    shards = _permutation(bits, len(shard_sizes))
    parts = []
    for first in range(0, len(shards), window):
        inside = [np.arange(ends[s] - shard_sizes[s], ends[s]) for s in shards[first : first + window]]
        samples = np.concatenate(inside)
        parts.append(samples[_permutation(bits, len(samples))])
    return np.concatenate(parts)


def window_ends(shard_sizes: Sequence[int], seed: int, task: str, epoch: int, window: int) -> np.ndarray:
    """Where the windows of `shuffled` end in its order: int64 [windows], ascending, the last one is N."""
    shards = _permutation(_bits(seed, task, epoch), len(shard_sizes))
    ends = np.cumsum(np.asarray(shard_sizes)[shards])
    return np.append(ends[window - 1 : -1 : window], ends[-1])


def balanced(labels: Sequence[int] | np.ndarray, seed: int, task: str, epoch: int) -> np.ndarray:
    """As many draws as there are samples, every class that occurs equally often (differences of 1 at most).

    Classes come in rounds, each once a round in an order of the round's own, so that any stretch is nearly
    balanced too. No sample comes a second time before all of its class have come; which of its samples a
    large class shows, and which classes come once more in the broken last round, changes from epoch to epoch.

    Args:
        labels: [N] integers, one a sample.
        seed: of the run.
        task: name.
        epoch: from 0.

    Returns:
        int64 [N], sample numbers.
    """
    bits = _bits(seed, task, epoch)
    _, class_of, counts = np.unique(np.asarray(labels), return_inverse=True, return_counts=True)
    members = np.split(np.argsort(class_of, kind="stable"), np.cumsum(counts)[:-1])
    rounds = -(-len(class_of) // len(members))
    drawn = np.concatenate([_permutation(bits, len(members)) for _ in range(rounds)])[: len(class_of)]
    draws = np.bincount(drawn, minlength=len(members))
    order = np.empty(len(class_of), np.int64)
    # Sorted by class, the draws of each class stand together, in the order in which they come.
    cycles = [_cycle(bits, own, count) for own, count in zip(members, draws.tolist(), strict=True)]
    order[np.argsort(drawn, kind="stable")] = np.concatenate(cycles)
    return order


class Order:
    """The endless order of a stream: one epoch's order after the other.

    Args:
        length: samples an epoch (N).
        permute: epoch -> int64 [N]; picklable, so that reader processes can have it.
        windows: epoch -> where each window of its order ends, as `window_ends`; picklable. None: an epoch is one.
    """

    KEPT = 2  # neighbouring epochs: a batch may lie across their border

    def __init__(
        self,
        length: int,
        permute: Callable[[int], np.ndarray],
        windows: Callable[[int], np.ndarray] | None = None,
    ) -> None:
        self.length, self.permute, self.windows = length, permute, windows
        self._epochs: dict[int, np.ndarray] = {}
        self._ends: dict[int, np.ndarray] = {}

    def index(self, position: int) -> int:
        """The sample at a position of the stream."""
        epoch, place = self.locate(position)
        return int(self._of(epoch, self._epochs, self.permute)[place])

    def window(self, position: int) -> range:
        """The positions that are shuffled together with this one: their shards are read at the same time."""
        if self.windows is None:
            first = position - position % self.length
            return range(first, first + self.length)
        epoch, place = self.locate(position)
        ends = self._of(epoch, self._ends, self.windows)
        number = int(np.searchsorted(ends, place, side="right"))
        first = int(ends[number - 1]) if number else 0
        return range(epoch * self.length + first, epoch * self.length + int(ends[number]))

    def _of(self, epoch: int, kept: dict[int, np.ndarray], make: Callable[[int], np.ndarray]) -> np.ndarray:
        if epoch not in kept:
            while len(kept) >= self.KEPT:
                del kept[next(iter(kept))]
            kept[epoch] = make(epoch)
        return kept[epoch]

    def locate(self, position: int) -> tuple[int, int]:
        """A position of the stream -> (epoch, place in that epoch's order), both from 0."""
        return divmod(position, self.length)

    def __getstate__(self) -> dict:
        return {**self.__dict__, "_epochs": {}, "_ends": {}}


def _bits(seed: int, task: str, epoch: int) -> np.random.PCG64:
    entropy = [seed % 2**64, zlib.crc32(task.encode()), epoch]  # SeedSequence takes no negative numbers
    return np.random.PCG64(np.random.SeedSequence(entropy))


def _permutation(bits: np.random.PCG64, count: int) -> np.ndarray:
    return np.argsort(bits.random_raw(count), kind="stable")


def _cycle(bits: np.random.PCG64, samples: np.ndarray, count: int) -> np.ndarray:
    """`count` of `samples`, one permutation of all of them after the other."""
    cycles = -(-count // len(samples))
    return np.concatenate([samples[_permutation(bits, len(samples))] for _ in range(cycles)])[:count]
