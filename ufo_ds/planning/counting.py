"""Bytes alive and operations done while a piece of code runs, counted by its tensors; fake ones count as well."""

from __future__ import annotations

import weakref
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import flop_registry


class CostCounter(TorchDispatchMode):
    """Counts the storages of all tensors that operations return while it is entered, and floating-point operations.

    `live` and `peak` are bytes. Tensors that were there before do not count, views count with their storage once, and
    what an operation needs only inside itself does not show. `flops` is what torch's own table says of products,
    convolutions and attention.
    """

    def __init__(self) -> None:
        super().__init__()
        self.live = self.peak = self.flops = 0
        self._known: weakref.WeakSet[torch.UntypedStorage] = weakref.WeakSet()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        before = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, torch.Tensor)]
        given = {id(leaf.untyped_storage()) for leaf in before}
        outputs = func(*args, **(kwargs or {}))
        # Not with FlopCounterMode: it holds on to the inputs and outputs of modules.
        count = flop_registry.get(getattr(func, "_overloadpacket", None))
        if count:
            self.flops += int(count(*args, **(kwargs or {}), out_val=outputs))
        for leaf in tree_leaves(outputs):
            if isinstance(leaf, torch.Tensor) and id(leaf.untyped_storage()) not in given:
                self._add(leaf.untyped_storage())
        return outputs

    def _add(self, storage: torch.UntypedStorage) -> None:
        if storage in self._known:
            return
        size = storage.nbytes()
        self._known.add(storage)
        weakref.finalize(storage, self._free, size).atexit = False
        self.live += size
        self.peak = max(self.peak, self.live)

    def _free(self, size: int) -> None:
        self.live -= size
