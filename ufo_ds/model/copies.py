"""Weights of one routing for a model of another: what is missing starts from what stands in its place."""

from __future__ import annotations

import re
from collections.abc import Mapping

import torch
from torch import Tensor

from ufo_ds.model.routing import LOGITS, OWN, OWN_COPIES, SHARED

_COPY = re.compile(rf"^(trunk\.vit\..+?)\.{OWN_COPIES}\.(\w+)\.(.+)$")
_LOGITS = re.compile(rf"^trunk\.vit\..+?\.{LOGITS}\.\w+$")


def shared_name(name: str) -> str | None:
    """Of a tensor in a task's copy, the name that the shared one has or would have; None for any other tensor."""
    found = _COPY.match(name)
    return f"{found[1]}.{found[3]}" if found else None


def fill_copies(own: Mapping[str, Tensor], given: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """`given`, with tensors for all the copies, shared modules and logits of the trunk in `own` that it lacks.

    A copy starts from the shared module, or, where every task has its own, from the mean of those copies; so does a
    shared module. Logits stay those of `own`. The mean of models finetuned from one start is as a rule a good one
    (model soups, arXiv 2203.05482). Where ways were learned and `own` has no logits for them, `given` is settled first.
    """
    given = _settle(own, given)
    filled = dict(given)
    copies: dict[str, list[Tensor]] = {}
    for name, tensor in given.items():
        shared = shared_name(name)
        if shared:
            copies.setdefault(shared, []).append(tensor)
    for name, tensor in own.items():
        if name in given:
            continue
        source = shared_name(name) or name
        if _LOGITS.match(name):
            filled[name] = tensor
        elif source in given:
            filled[name] = given[source]
        elif source in copies:
            filled[name] = torch.stack(copies[source]).mean(0) if _alike(copies[source]) else copies[source][0]
    return filled


def _settle(own: Mapping[str, Tensor], given: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """`given`, with a task's copy made what its logits prefer; in a model of one task, the shared module too."""
    settled = dict(given)
    tasks = {name.split(".")[1] for name in own if name.startswith("heads.")}
    for name, logits in given.items():
        if not _LOGITS.match(name) or name in own:
            continue
        place, task = name.rsplit(f".{LOGITS}.", 1)
        start = f"{place}.{OWN_COPIES}.{task}."
        for copy in [key for key in given if key.startswith(start)]:
            shared = f"{place}.{copy.removeprefix(start)}"
            if logits[OWN] <= logits[SHARED]:
                settled[copy] = given[shared]
            elif tasks == {task}:
                settled[shared] = given[copy]
    return settled


def _alike(tensors: list[Tensor]) -> bool:
    return all(tensor.shape == tensors[0].shape and tensor.is_floating_point() for tensor in tensors)
