"""Activation checkpointing of transformer blocks, by name."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

from ufo_ds.errors import UserError
from ufo_ds.model.routing import Route, Way


def checkpoint_blocks(blocks: Iterable[nn.Module], method: str, way: Way | None = None) -> None:
    """Make each block recompute its activations in the backward pass.

    The blocks' `forward` is replaced in place, so that parameter names stay those of the trunk.

    Args:
        blocks: the trunk's transformer blocks.
        method: `none`; `torch`, non-reentrant; `fairscale`, whose activations wait on the CPU; `deepspeed`, its own.
        way: of a trunk whose blocks run differently from pass to pass: each recomputation takes the route of its pass.
    """
    wrap = {"none": None, "torch": _torch, "fairscale": _fairscale, "deepspeed": _deepspeed}[method]
    for block in blocks if wrap else ():
        if way is None:
            wrap(block)
        else:
            block.forward = _on_route(way, block.forward)
            wrap(block)
            block.forward = _with_route(way, block.forward)


def _on_route(way: Way, plain: Callable) -> Callable:
    def forward(*args, route: Route, **kwargs):
        with way.taken(route):
            return plain(*args, **kwargs)

    return forward


def _with_route(way: Way, checkpointed: Callable) -> Callable:
    """Hand the present route over as an argument, which a checkpoint keeps."""

    def forward(*args, **kwargs):
        return checkpointed(*args, route=way.route, **kwargs)

    return forward


def _torch(block: nn.Module) -> None:
    plain = block.forward

    def forward(*args, **kwargs):
        if not torch.is_grad_enabled():
            return plain(*args, **kwargs)
        return checkpoint(plain, *args, use_reentrant=False, **kwargs)

    block.forward = forward


def _fairscale(block: nn.Module) -> None:
    try:
        from fairscale.nn import checkpoint_wrapper
    except ImportError:
        raise UserError(
            "key 'model.checkpointing' is fairscale, which is not installed: "
            "pip install 'ufo-ds[fairscale]', or choose torch"
        ) from None
    # It runs the class's own `forward` whatever the block's is: a class around that.
    block.forward = checkpoint_wrapper(_Plain(_keep_autocast(block.forward)), offload_to_cpu=True).__call__


class _Plain(nn.Module):
    """A function as a module without parameters."""

    def __init__(self, run: Callable) -> None:
        super().__init__()
        self.run = run

    def forward(self, *args, **kwargs):
        return self.run(*args, **kwargs)


def _deepspeed(block: nn.Module) -> None:
    plain = _keep_autocast(block.forward)

    def forward(*args, **kwargs):
        if not torch.is_grad_enabled():
            return plain(*args, **kwargs)
        from deepspeed.runtime.activation_checkpointing import checkpointing

        # DeepSpeed's function takes positional tensors only.
        return checkpointing.checkpoint(lambda *tensors: plain(*tensors, **kwargs), *args)

    block.forward = forward


def _keep_autocast(plain: Callable) -> Callable:
    """`plain`, recomputed under the autocast state of its first run.

    Reentrant checkpoints (fairscale, DeepSpeed) restore only CUDA's state; on the CPU the second run would be fp32
    and its gradients those of another function.
    """
    state: list[tuple[str, bool, torch.dtype]] = []

    def forward(*args, **kwargs):
        device = args[0].device.type
        if not torch.is_grad_enabled():  # the first run of a reentrant checkpoint, and plain inference
            state[:] = [(device, torch.is_autocast_enabled(device), torch.get_autocast_dtype(device))]
            return plain(*args, **kwargs)
        if not state:
            return plain(*args, **kwargs)
        kind, enabled, dtype = state[0]
        with torch.autocast(kind, dtype=dtype, enabled=enabled):
            return plain(*args, **kwargs)

    return forward
