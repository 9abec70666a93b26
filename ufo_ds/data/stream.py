"""Batches of one task: endless for training, once through for evaluation.

A batch is a function of its number alone, so that any process may make it: the state of a stream is the step.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Generator, Iterator, Sequence
from functools import partial
from typing import Any

import numpy as np
import torch

from ufo_ds.data.batch import Batch, Example
from ufo_ds.data.companions import Companion, Gathering, companions_of
from ufo_ds.data.decode import DecodeError, decode_label
from ufo_ds.data.order import Order, balanced, shuffled, window_ends
from ufo_ds.data.readers import read_batches
from ufo_ds.data.schema import RawSample
from ufo_ds.data.shards import ShardSet
from ufo_ds.errors import UserError

MAX_BROKEN = 16
"""So many broken samples in a row are no accident."""
_REMEDY = "mend or remove the raw file and run shards/build.py again"

Transform = Callable[[RawSample], Example] | Gathering
Collate = Callable[[Sequence[Example]], Batch]


def make_order(
    shards: ShardSet, task: str, seed: int, window: int, balance: bool, everywhere: bool = False
) -> Order:
    """The order of a training stream.

    Args:
        shards: the split.
        task: name.
        seed: of the run.
        window: shards that are shuffled together; of no effect with `balance`.
        balance: draw every class equally often, by the `.cls` members, instead of every sample once an epoch.
        everywhere: companions come from any shard at any time; the order stays the same.

    Raises:
        UserError: `balance` for samples without a class; remote shards that the order needs do not fit the cache.
    """
    shards.keep(None if balance or everywhere else window)
    if balance:
        labels = np.array([_class_of(shards, index) for index in range(len(shards))], np.int64)
        return Order(len(shards), partial(balanced, labels, seed, task))
    shuffle, ends = (partial(one, shards.shard_sizes, seed, task, window=window) for one in (shuffled, window_ends))
    return Order(len(shards), shuffle, ends)


def _class_of(shards: ShardSet, index: int) -> int:
    label = shards.read_member(index, "cls")
    try:
        return decode_label(label)
    except DecodeError as problem:
        raise UserError(f"{shards.place_of(index)}: {problem}; {_REMEDY}") from None


class TaskStream(Iterator[Batch]):
    """The endless stream of one task's training batches on one rank.

    Batch b of rank r holds the positions b*G + r*B .. b*G + (r+1)*B of the order, where G = B * world. The
    sample at position p is augmented with randomness seeded by (seed, task, p). So batches depend neither on
    the number of workers nor on where the stream was started, and global batches not on how many ranks share
    them.

    Args:
        shards: the split.
        transform: RawSample -> Example, or a `Gathering`, which takes companions; picklable, random through torch's
            global generator alone.
        collate: Examples -> Batch; picklable.
        order: of the samples; see `make_order`.
        batch: samples a step on this rank (B).
        rank: of this process.
        world: ranks.
        seed: of the run.
        start_step: number of the first batch, from 0: steps done before it.
        workers: reader processes; they start with the first batch. 0 reads in this process.
        closing: number of a batch, and the transform from there on; None: `transform` to the end.

    Raises:
        UserError: while iterating, a sample that is not what the task needs, or `MAX_BROKEN` broken ones in a row.
    """

    def __init__(
        self,
        shards: ShardSet,
        transform: Transform,
        collate: Collate,
        order: Order,
        *,
        batch: int,
        rank: int = 0,
        world: int = 1,
        seed: int,
        start_step: int = 0,
        workers: int = 0,
        closing: tuple[int, Transform] | None = None,
    ) -> None:
        self.step = start_step
        """Number of the next batch."""
        self._passes_a_step = batch * world / order.length
        self._make = _TrainingBatches(shards, transform, collate, order, batch, rank, world, seed, closing)
        self._workers = workers
        self._batches: Generator[Batch, None, None] | None = None

    def __next__(self) -> Batch:
        if self._batches is None:
            self._make.shards.begin(self.step, self._make.samples_of)
            module = type(self._make.transform).__module__
            self._batches = read_batches(self._make, self.step, None, self._workers, module)
        try:
            batch = next(self._batches)
        except BaseException:
            self.close()
            raise
        self.step += 1
        return batch

    @property
    def epoch(self) -> float:
        """Passes over the split, all ranks together, before the next batch."""
        return self.step * self._passes_a_step

    def close(self) -> None:
        """End the reader processes. The next batch, if one is asked for, starts them anew."""
        if self._batches is not None:
            self._batches.close()
            self._batches = None

    def __enter__(self) -> TaskStream:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()


def evaluation_batches(
    shards: ShardSet,
    transform: Transform,
    collate: Collate,
    *,
    batch: int,
    rank: int = 0,
    world: int = 1,
    workers: int = 0,
    limit: int | None = None,
) -> Generator[Batch, None, None]:
    """Walk a split once: rank r takes the samples r, r + world, ... in order; its last batch may be short.

    Args:
        shards: the split.
        transform: RawSample -> Example; picklable, without chance.
        collate: Examples -> Batch; picklable.
        batch: samples a batch.
        rank: of this process.
        world: ranks.
        workers: reader processes; 0 reads in this process.
        limit: only the first so many samples of the split, over all ranks; None: all.

    Raises:
        UserError: a broken sample. It is not passed over, as that would change the score in silence.
    """
    count = len(shards) if limit is None else min(limit, len(shards))
    make = _EvaluationBatches(shards, transform, collate, range(rank, count, world), batch)
    return read_batches(make, 0, len(make), min(workers, len(make)), type(transform).__module__)


# ---- batches by number; these two travel to the reader processes ----


class _TrainingBatches:
    """Step -> this rank's batch."""

    def __init__(
        self,
        shards: ShardSet,
        transform: Transform,
        collate: Collate,
        order: Order,
        batch: int,
        rank: int,
        world: int,
        seed: int,
        closing: tuple[int, Transform] | None,
    ) -> None:
        self.shards, self.transform, self.collate, self.order = shards, transform, collate, order
        self.batch, self.rank, self.world, self.seed = batch, rank, world, seed
        self.closing = closing

    def samples_of(self, step: int) -> list[int]:
        """Numbers of the samples of a batch, companions among them, replacements aside."""
        found = []
        for position in self._positions(step):
            companions = self._companions(self._transform_at(step), position)
            found += [self.order.index(position), *(companion.index for companion in companions)]
        return found

    def _transform_at(self, step: int) -> Transform:
        return self.closing[1] if self.closing and step >= self.closing[0] else self.transform

    def _companions(self, transform: Transform, position: int) -> list[Companion]:
        return companions_of(transform, self.order, self.seed, self.shards.task, position)

    def _positions(self, step: int) -> range:
        first = (step * self.world + self.rank) * self.batch
        return range(first, first + self.batch)

    def __call__(self, step: int) -> Batch:
        self.shards.look_ahead(step, self.samples_of)
        found = [self._example(position, self._transform_at(step)) for position in self._positions(step)]
        batch = self.collate([example for example, _ in found])
        batch.replaced = sum(replaced + example.left_out for example, replaced in found)
        return batch

    def _example(self, position: int, transform: Transform) -> tuple[Example, bool]:
        """The example at a position, and whether a later sample stands in for the one that belongs there."""
        sample_seed = _sample_seed(self.seed, self.shards.task, position)
        companions = self._companions(transform, position)
        for successor in range(MAX_BROKEN):
            index = self.order.index(position + successor)
            # `torch.manual_seed` would seed every device too, and takes 70 times as long.
            torch.default_generator.manual_seed(sample_seed)
            try:
                return _transformed(self.shards, index, transform, companions), successor > 0
            except DecodeError as error:
                last = f"{self.shards.place_of(index)}: {error}"
        raise UserError(f"{last}, as {MAX_BROKEN - 1} samples before it in a row; {_REMEDY}")


class _EvaluationBatches:
    """Number -> this rank's batch."""

    def __init__(self, shards: ShardSet, transform: Transform, collate: Collate, samples: range, batch: int) -> None:
        self.shards, self.transform, self.collate = shards, transform, collate
        self.samples, self.batch = samples, batch

    def __len__(self) -> int:
        return -(-len(self.samples) // self.batch)

    def samples_of(self, number: int) -> range:
        """Numbers of the samples of a batch; none beyond the last."""
        return self.samples[number * self.batch : (number + 1) * self.batch]

    def __call__(self, number: int) -> Batch:
        self.shards.look_ahead(number, self.samples_of)
        return self.collate([self._example(index) for index in self.samples_of(number)])

    def _example(self, index: int) -> Example:
        try:
            return _transformed(self.shards, index, self.transform)
        except DecodeError as error:
            raise UserError(f"{self.shards.place_of(index)}: {error}; {_REMEDY}") from None


def _transformed(
    shards: ShardSet, index: int, transform: Transform, companions: Sequence[Companion] = ()
) -> Example:
    raw = shards[index]
    further: list[Any] = [[(shards[one.index], one.use) for one in companions]] if companions else []
    try:
        return transform(raw, *further)
    except UserError as error:
        raise UserError(f"{shards.place_of(index)}: {error}") from None


def _sample_seed(seed: int, task: str, position: int) -> int:
    digest = hashlib.blake2b(f"{seed} {task} {position}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little")
