"""Batches on their way out of a reader process: small tensors inside the message, large ones in memory that stays.

Shared memory that is new to a process costs a page fault every 4 KiB, in a virtual machine some 4 us: a fifth of the
time that a detection batch takes to make. So a reader keeps a few pieces for good and fills them in turn, and who
takes a batch copies it out.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ufo_ds.data.batch import Batch
from ufo_ds.data.views import ViewBatch

INLINE_BYTES = 1 << 16
"""Tensors up to this size travel inside the message: the boxes of a batch are many and small."""
AHEAD = 2
"""Batches that a reader is asked for before the first of them is taken."""
_PIECES = AHEAD + 1  # the one more is being copied out, when the next request has been sent already
_ALIGNMENT = 64


@dataclass
class Parcel:
    """A batch as a message.

    Attributes:
        kind: of the batch, `Batch` or `ViewBatch`.
        content: the batch's attributes; tensors are arrays or `_Place`s.
        piece: (process, number) of the shared memory that the places lie in.
        memory: uint8 [bytes] of that piece, where it is new to the receiver.
    """

    kind: type
    content: dict[str, Any]
    piece: tuple[int, int]
    memory: Tensor | None


@dataclass(frozen=True)
class _Place:
    """A tensor in a piece of shared memory."""

    start: int
    dtype: torch.dtype
    shape: torch.Size

    def of(self, memory: Tensor) -> Tensor:
        size = self.shape.numel() * self.dtype.itemsize
        return memory[self.start : self.start + size].view(self.dtype).view(self.shape)


class Sender:
    """The reader's end. A piece is written anew when `AHEAD` further batches of this reader have been asked for."""

    def __init__(self) -> None:
        self._pieces = [torch.empty(0, dtype=torch.uint8)] * _PIECES
        self._turn = -1

    def pack(self, batch: Batch | ViewBatch) -> Parcel:
        """The batch, its large tensors in the next piece."""
        large: list[tuple[_Place, Tensor]] = []
        end = 0

        def put(tensor: Tensor) -> np.ndarray | _Place:
            nonlocal end
            if tensor.nbytes <= INLINE_BYTES:
                return tensor.numpy()
            place = _Place(end, tensor.dtype, tensor.shape)
            large.append((place, tensor))
            end += -(-tensor.nbytes // _ALIGNMENT) * _ALIGNMENT
            return place

        content = _convert(vars(batch), Tensor, put)
        self._turn = (self._turn + 1) % _PIECES
        is_new = self._pieces[self._turn].nbytes < end
        if is_new:
            self._pieces[self._turn] = torch.empty(end, dtype=torch.uint8).share_memory_()
        memory = self._pieces[self._turn]
        for place, tensor in large:
            place.of(memory).copy_(tensor)
        return Parcel(type(batch), content, (os.getpid(), self._turn), memory if is_new else None)


class Receiver:
    """The other end, for the parcels of any number of senders; each is to be unpacked before the next is awaited.

    Args:
        pin: copy large tensors to page-locked memory, from which a GPU can fetch them on its own.
    """

    def __init__(self, pin: bool) -> None:
        self._pin = pin
        self._memory: dict[tuple[int, int], Tensor] = {}

    def unpack(self, parcel: Parcel | Batch | ViewBatch) -> Batch | ViewBatch:
        """The batch, in memory of its own. One that comes as it is was made in this process."""
        if not isinstance(parcel, Parcel):
            return type(parcel)(**_convert(vars(parcel), Tensor, self._pinned))
        if parcel.memory is not None:
            self._memory[parcel.piece] = parcel.memory

        def take(place: _Place) -> Tensor:
            copy = torch.empty(place.shape, dtype=place.dtype, pin_memory=self._pin)
            return copy.copy_(place.of(self._memory[parcel.piece]))

        content = _convert(parcel.content, _Place, take)
        return parcel.kind(**_convert(content, np.ndarray, torch.from_numpy))

    def _pinned(self, tensor: Tensor) -> Tensor:
        return tensor.pin_memory() if self._pin and tensor.nbytes > INLINE_BYTES else tensor


def _convert(value: Any, kind: type, change: Callable[[Any], Any]) -> Any:
    if isinstance(value, kind):
        return change(value)
    if isinstance(value, Mapping):
        return {key: _convert(item, kind, change) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(_convert(item, kind, change) for item in value)
    return value
