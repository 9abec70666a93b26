"""A model, or one task of it, as a folder of weights that stands alone; checked by loading it back."""

from __future__ import annotations

from pathlib import Path

import torch

from ufo_ds.assembly import WEIGHTS, count_parameters, find_weights, load_model, save_weights
from ufo_ds.errors import UserError
from ufo_ds.model.joint import JointModel

TOLERANCE = 1e-5
"""Largest difference allowed between the joint model's outputs and the export's, in fp32."""


def export(source: Path, out: Path, task: str | None = None) -> dict[str, float]:
    """Write `out/model.safetensors` and `out/config.json`, load them back, and print how well the outputs agree.

    Args:
        source: a run, an export or a folder of weights.
        out: folder to write; not the source itself.
        task: one task's head only; None: all of them.

    Returns:
        The largest absolute difference of each task's outputs on images of noise.

    Raises:
        UserError: the weights have no such task, or `out` is where they are.
    """
    folder = find_weights(source)
    if out.resolve() == folder.resolve():
        raise UserError(f"--out {out}: this is where the weights are; name another folder")
    model, recipe, metas = load_model(folder)
    if task and task not in metas:
        raise UserError(f"--task {task}: the weights in {folder} have only {', '.join(metas)}")
    names = [task] if task else list(metas)
    part = JointModel(model.trunk, {name: model.heads[name] for name in names}).eval()
    save_weights(part, recipe, {name: metas[name] for name in names}, out)
    again, _, _ = load_model(out)
    parity = {name: compare(model, again, name, recipe) for name in names}
    megabytes = (out / WEIGHTS).stat().st_size / 1e6
    print(f"{out}: {', '.join(names)}; {count_parameters(again) / 1e6:.2f} M parameters, {megabytes:.1f} MB")
    for name, difference in parity.items():
        print(f"parity {name}: largest difference {difference:.2e} (allowed {TOLERANCE:.0e})")
    worst = max(parity, key=lambda name: parity[name])
    if not parity[worst] <= TOLERANCE:
        raise UserError(
            f"{out}: the {worst} outputs differ by {parity[worst]:.2e} from those of {folder}; do not use it"
        )
    return parity


def compare(model: JointModel, other: JointModel, task: str, recipe: object) -> float:
    """Largest absolute difference of a task's network outputs on two images of noise at its own resolution."""
    config = getattr(recipe.tasks, task)
    height, width = getattr(config, "size", None) or config.crop
    images = torch.randint(0, 256, (2, 3, height, width), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    first, second = model.raw(task, images), other.raw(task, images)
    return max(float((first[key] - second[key]).abs().max()) for key in first)
