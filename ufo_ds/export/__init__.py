"""A model, or one task of it, as a folder that stands alone: safetensors, its config, and ONNX on request.

All is written into a folder of its own, checked there against the model it comes from, and only then put in place.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from ufo_ds.assembly import CONFIG, WEIGHTS, count_parameters, find_weights, load_model, save_weights
from ufo_ds.errors import UserError
from ufo_ds.export import latency, onnx_file, parity
from ufo_ds.export.images import Images, ImageSource
from ufo_ds.export.parity import TOLERANCE
from ufo_ds.export.part import part_of
from ufo_ds.export.staging import Staging
from ufo_ds.files import replace_file
from ufo_ds.model.joint import JointModel
from ufo_ds.recipe import Recipe, Width

__all__ = ["TOLERANCE", "ImageSource", "export"]


@dataclass(frozen=True)
class _Pair:
    """The model before and after, the size of the trunk afterwards, and the folder that is being written."""

    joint: JointModel
    part: JointModel
    size: Width
    recipe: Recipe
    staging: Path

    @contextmanager
    def at_size(self) -> Iterator[JointModel]:
        """The joint model, which runs only the part of its trunk that is exported."""
        whole, self.joint.trunk.width = self.joint.trunk.width, self.size
        try:
            yield self.joint
        finally:
            self.joint.trunk.width = whole


def export(
    source: Path,
    out: Path,
    task: str | None = None,
    *,
    size: Width | None = None,
    opset: int | None = None,
    images: ImageSource | None = None,
    batch: int = 2,
) -> dict[str, float]:
    """Write `out`, check it, and print sizes, agreement and latency. A failed check leaves `out` as it was.

    Args:
        source: a run, an export or a folder of weights.
        out: folder to write; not the source itself. What an earlier export left there is replaced.
        task: one task's path only; None: all of them.
        size: leading part of the trunk that is written; None: all of it.
        opset: also write `out/<task>.onnx` of this ONNX opset; None: no ONNX.
        images: what the outputs are compared on; None: noise.
        batch: images at a time in the comparison.

    Returns:
        The largest absolute difference of each task's outputs between the model and the exported weights.

    Raises:
        UserError: the weights have no such task, `out` is where they are, ONNX is not installed or cannot express the
            model, or the outputs differ by more than is allowed.
    """
    if opset is not None:
        onnx_file.require(opset)
    folder = find_weights(source)
    if out.resolve() in (folder.resolve(), source.resolve()):
        raise UserError(f"--out {out}: this is where the weights are; name another folder")
    joint, recipe, metas = load_model(folder)
    if task and task not in metas:
        raise UserError(f"--task {task}: the weights in {folder} have only {', '.join(metas)}")
    names = [task] if task else list(metas)
    images = images or ImageSource()
    with Staging(out) as staging:
        part = part_of(joint, task, size or Width())
        save_weights(part, recipe, {name: metas[name] for name in names}, staging)
        again, _, _ = load_model(staging)
        pair = _Pair(joint, again, size or Width(), recipe, staging)
        found = {name: images.take(name, recipe, metas[name]) for name in names}
        differences = {name: _check_weights(pair, name, found[name], batch, folder) for name in names}
        if opset is not None:
            _add_onnx(pair, found, opset, batch)
        _print_sizes(pair, names, out)
        for name in names:
            _print_latency(pair, name, found[name].pixels[:1], opset is not None)
    return differences


def _check_weights(pair: _Pair, name: str, images: Images, batch: int, folder: Path) -> float:
    with pair.at_size() as joint:
        difference = parity.largest_difference(joint, pair.part, name, images.pixels, batch)
    print(f"parity {name}: largest difference {difference:.2e} (allowed {TOLERANCE:.0e}) on {images.what}")
    if not difference <= TOLERANCE:
        raise UserError(f"--out: the {name} outputs of the export differ by {difference:.2e} from those of {folder}; "
                        "nothing was written")  # fmt: skip
    return difference


def _add_onnx(pair: _Pair, found: dict[str, Images], opset: int, batch: int) -> None:
    """Write and check a file a task, and describe them in the config."""
    described = {}
    for name, images in found.items():
        file = pair.staging / f"{name}.onnx"
        print(f"writing {file.name}, opset {opset}: some 10 to 60 seconds", flush=True)
        described[name] = onnx_file.write(pair.part, name, images.pixels.shape[-2:], opset, file)
        with pair.at_size() as joint:
            parity.check_onnx(joint, name, file, images, batch)
    config = json.loads((pair.staging / CONFIG).read_text())
    replace_file(pair.staging / CONFIG, json.dumps({**config, "onnx": described}, indent=1))


def _print_sizes(pair: _Pair, names: list[str], out: Path) -> None:
    before, after = count_parameters(pair.joint), count_parameters(pair.part)
    before_bytes = sum(value.nbytes for value in pair.joint.state_dict().values())
    after_bytes = (pair.staging / WEIGHTS).stat().st_size
    print(
        f"{out}: {', '.join(names)}; {after / 1e6:.2f} M parameters, {after_bytes / 1e6:.1f} MB "
        f"(before: {before / 1e6:.2f} M, {before_bytes / 1e6:.1f} MB; ratio {after_bytes / before_bytes:.2f})"
    )
    for file in sorted(pair.staging.glob("*.onnx*")):
        print(f"{out / file.name}: {file.stat().st_size / 1e6:.1f} MB")


def _print_latency(pair: _Pair, name: str, image: Tensor, has_onnx: bool) -> None:
    runs = {
        "before": lambda: pair.joint.raw(name, image),
        "export": lambda: pair.part.raw(name, image),
    }
    if has_onnx:
        session = onnx_file.open_session(pair.staging / f"{name}.onnx")
        runs["onnxruntime"] = lambda: session.run(None, {onnx_file.INPUT: image.numpy()})
    medians, rounds = latency.measure(runs)
    height, width = image.shape[-2:]
    first = next(iter(medians.values()))
    figures = ", ".join(f"{kind} {1e3 * value:.1f} ms ({value / first:.2f})" for kind, value in medians.items())
    print(f"latency {name}: {figures}; one image of {height} x {width}, CPU, threads: {torch.get_num_threads()}, "
          f"median of {rounds}")  # fmt: skip
