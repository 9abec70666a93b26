"""Which part of a joint model is written."""

from __future__ import annotations

from ufo_ds.errors import UserError
from ufo_ds.model.extraction import single_task, sliced
from ufo_ds.model.joint import JointModel
from ufo_ds.recipe import Width


def part_of(model: JointModel, task: str | None, size: Width) -> JointModel:
    """The model to write: one task's path (None: all tasks) through a trunk of `size`; in evaluation mode.

    Raises:
        UserError: a size that the trunk was not trained for, does not have or cannot be cut to.
    """
    trained = model.trunk.settings.elastic
    for name in ("depth", "heads", "mlp"):
        value = getattr(size, name)
        if value is not None and not getattr(trained, name):
            raise UserError(f"--{name} {value}: this trunk was not trained for it; train with key trunk.elastic.{name}")
    part = model if size == Width() else sliced(model, size.depth, size.heads, size.mlp)
    return (single_task(part, task) if task else part).eval()
