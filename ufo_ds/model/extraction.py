"""Smaller models out of a joint model: the path of one task, and the leading part of every block."""

from __future__ import annotations

import dataclasses

import torch
from torch import Tensor, nn

from ufo_ds.errors import UserError
from ufo_ds.model.joint import JointModel
from ufo_ds.model.routing import LOGITS, OWN_COPIES, Part
from ufo_ds.model.slicing import cuts
from ufo_ds.model.trunk import Trunk
from ufo_ds.recipe import ElasticConfig, TaskBlocksConfig, TrunkConfig, Width


def single_task(model: JointModel, task: str) -> JointModel:
    """A model of one task with the weights on its path alone, its routed modules plain ones of timm.

    Where a way is learned, the likelier one is kept. The outputs are those of `model` in evaluation. The head is the
    same object, the trunk a new one; `assembly.save_weights` writes it as a model that was never routed.

    Args:
        model: whole; its trunk's size stays.
        task: one of its tasks.
    """
    trunk = model.trunk
    settings = dataclasses.replace(
        trunk.settings, task_blocks=TaskBlocksConfig(), elastic=ElasticConfig(), multiple=trunk.multiple
    )
    tensors = trunk.state_dict()
    own = trunk.routing.settled_route(task, Width()).own
    for part in trunk.routing.parts:
        _resolve(tensors, _name_of(trunk, part), part, task if part.kind == "specific" or part.place in own else None)
    return _assembled(model, [task], settings, tensors)


def _resolve(tensors: dict[str, Tensor], name: str, part: Part, task: str | None) -> None:
    """Leave one of a module's ways in `tensors`, under the plain names: a task's copy, or the shared one (None)."""
    taken = f"{name}.{OWN_COPIES}.{task}."
    copy = {key: value for key, value in tensors.items() if key.startswith(taken)}
    for key in [key for key in tensors if key.startswith((f"{name}.{OWN_COPIES}.", f"{name}.{LOGITS}."))]:
        del tensors[key]
    tensors.update({f"{name}.{key.removeprefix(taken)}": value for key, value in copy.items()})


def _name_of(trunk: Trunk, part: Part) -> str:
    return next(name for name, module in trunk.named_modules() if module is part.module)


def sliced(
    model: JointModel, depth: int | None = None, heads: int | None = None, mlp: float | None = None
) -> JointModel:
    """A model whose trunk has only its leading blocks, heads and hidden units, in truly smaller tensors.

    Its outputs are those of `model` in evaluation with `model.trunk.width` set to that size. Its heads are the same
    objects. Where tasks part, they go on doing so.

    Args:
        model: whole, not cut before.
        depth: blocks, at least `model.depths` of the recipe; None: all.
        heads: attention heads of each block; None: all.
        mlp: share of the hidden units, in (0, 1]; None: all.

    Raises:
        UserError: a size that the trunk does not have or cannot be cut to.
    """
    trunk, size = model.trunk, Width(depth, heads, mlp)
    if trunk.settings.sliced != Width():
        raise UserError(f"the trunk was cut before, to {trunk.settings.sliced}; cut the whole model instead")
    settings = dataclasses.replace(trunk.settings, sliced=size, elastic=ElasticConfig(), multiple=trunk.multiple)
    tensors = trunk.state_dict()
    for path, module in trunk.vit.blocks.named_modules():
        for name, cut in cuts(module, size).items():
            full = f"vit.blocks.{path}.{name}"
            if full in tensors:  # not a buffer that is made anew
                tensors[full] = cut(tensors[full])
    return _assembled(model, trunk.tasks, settings, tensors)


def _assembled(model: JointModel, tasks: list[str], settings: TrunkConfig, tensors: dict[str, Tensor]) -> JointModel:
    """A joint model of `model`'s heads and a new trunk with those of `tensors` that it has."""
    with torch.random.fork_rng(devices=[]):
        trunk = Trunk(model.trunk.config.bare(), tasks, settings)
    trunk.load_state_dict({name: tensors[name] for name in trunk.state_dict()})
    trunk.to(next(iter(tensors.values())).device)
    heads: dict[str, nn.Module] = {name: model.heads[name] for name in tasks}
    return JointModel(trunk, heads).train(model.training)
