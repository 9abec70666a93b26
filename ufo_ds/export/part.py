"""Which part of a joint model is written."""

from __future__ import annotations

from ufo_ds.model.joint import JointModel


def part_of(model: JointModel, task: str | None) -> JointModel:
    """The model to write for one task (None: all of them), sharing its tensors with `model`; in evaluation mode."""
    names = [task] if task else list(model.heads)
    return JointModel(model.trunk, {name: model.heads[name] for name in names}).eval()
