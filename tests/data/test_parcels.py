"""What a reader packs comes out as it was, and stays so while the reader goes on in the same memory."""

import pickle
import time

import pytest
import torch

from ufo_ds.data import readers
from ufo_ds.data.batch import Batch
from ufo_ds.data.parcels import AHEAD, INLINE_BYTES, Receiver, Sender


def batch_of(number, side=200):
    """Large and small tensors of several kinds, all different from number to number."""
    images = torch.full((2, 3, side, side), number, dtype=torch.uint8)
    targets = [
        {"boxes": torch.full((number % 3, 4), number + 0.5), "labels": torch.full((3,), number)},
        torch.full((300, 300), number, dtype=torch.int64),
    ]
    return Batch("det", images, targets, [{"file_name": f"{number}.jpg", "size": (3, 4)}], replaced=number)


def is_batch(found, number, side=200):
    wanted = batch_of(number, side)
    (first, mask), (wanted_first, wanted_mask) = found.targets, wanted.targets
    pairs = [(found.images, wanted.images), (mask, wanted_mask), *((first[k], wanted_first[k]) for k in wanted_first)]
    same = all(one.dtype == other.dtype and torch.equal(one, other) for one, other in pairs)
    return same and found.sources == wanted.sources and found.replaced == number and found.task == "det"


def test_batches_come_out_as_they_went_in():
    sender, receiver = Sender(), Receiver(pin=False)
    sides = [200, 160, 400, 130, 380, 400, 90, 500, 150]
    for number, side in enumerate(sides):
        assert is_batch(receiver.unpack(sender.pack(batch_of(number, side))), number, side)
    assert is_batch(receiver.unpack(batch_of(5)), 5)  # made in this process


def test_memory_is_handed_over_once():
    sender = Sender()
    parcels = [sender.pack(batch_of(number)) for number in range(3 * AHEAD)]
    assert [parcel.memory is not None for parcel in parcels] == [True] * (AHEAD + 1) + [False] * (2 * AHEAD - 1)
    assert len(pickle.dumps(parcels[-1])) < INLINE_BYTES
    assert len({parcel.piece for parcel in parcels}) == AHEAD + 1
    assert sender.pack(batch_of(0, side=900)).memory is not None  # larger than all before


def test_what_was_taken_out_stays():
    sender, receiver = Sender(), Receiver(pin=False)
    found = [receiver.unpack(sender.pack(batch_of(number))) for number in range(12)]
    assert all(is_batch(batch, number) for number, batch in enumerate(found))


def test_a_parcel_keeps_while_as_many_more_are_packed_as_are_asked_for():
    sender, receiver = Sender(), Receiver(pin=False)
    for number in range(20):
        parcels = [sender.pack(batch_of(number + later)) for later in range(AHEAD + 1)]
        for parcel in parcels:
            if parcel.memory is not None:
                receiver._memory[parcel.piece] = parcel.memory
        assert all(is_batch(receiver.unpack(parcel), number + later) for later, parcel in enumerate(parcels))
    first = sender.pack(batch_of(100))
    for later in range(AHEAD + 1):
        sender.pack(batch_of(101 + later))
    assert not is_batch(receiver.unpack(first), 100)  # so the test would notice


@pytest.mark.multiprocess
@pytest.mark.parametrize("workers", [1, 3])
def test_a_reader_does_not_overtake_a_slow_consumer(monkeypatch, workers):
    class SlowReceiver(Receiver):
        def unpack(self, parcel):
            time.sleep(0.15)  # for readers to do all that they have been asked for
            return super().unpack(parcel)

    monkeypatch.setattr(readers, "Receiver", SlowReceiver)
    batches = list(readers.read_batches(batch_of, 0, 14, workers, __name__))
    assert len(batches) == 14 and all(is_batch(batch, number) for number, batch in enumerate(batches))
