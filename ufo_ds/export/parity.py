"""Whether an export gives what the model gives: the weights to the digit, ONNX to the rounding of other kernels."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from torch import Tensor

from ufo_ds.errors import UserError
from ufo_ds.export.images import Images
from ufo_ds.export.onnx_file import INPUT, open_session
from ufo_ds.export.queries import is_tie, matched
from ufo_ds.model.joint import JointModel

TOLERANCE = 1e-5
"""Largest difference allowed between the joint model's outputs and the export's, in fp32."""
ONNX_TOLERANCE = 1e-4
"""Largest difference allowed between the joint model's outputs in fp32 and onnxruntime's, as a share of the range
(largest - smallest value) of that output over the image. Kernels that sum in another order differ by 1e-6 to 1e-5."""


def largest_difference(model: JointModel, other: JointModel, task: str, pixels: Tensor, batch: int) -> float:
    """Largest absolute difference of a task's network outputs on uint8 images [N, 3, H, W]."""
    worst = 0.0
    for images in pixels.split(batch):
        first, second = model.raw(task, images), other.raw(task, images)
        worst = float(np.max([worst, *(float((first[key] - second[key]).abs().max()) for key in first)]))
    return worst


def check_onnx(model: JointModel, task: str, file: Path, images: Images, batch: int) -> dict[str, float]:
    """Compare a file in onnxruntime with the model, and print the differences.

    A detection decoder begins by picking the positions that score best, and its queries stand in the order of that
    score: so queries are compared with their partners, one to one. Where the last one in and the first one out are
    level to within rounding, another query is as right, and it changes all others a little: such an image is left out
    if it differs, and said to be.

    Returns:
        Of each output the largest difference, as a share of its range.

    Raises:
        UserError: it is above `ONNX_TOLERANCE`, or more than half of the images had to be left out.
    """
    session, worst, ties = open_session(file), {}, 0
    for part in images.pixels.split(batch):
        ours, theirs = model.raw(task, part), session.run(None, {INPUT: part.numpy()})
        for index in range(len(part)):
            first = {name: value[index].numpy() for name, value in ours.items()}
            second = {name: value[index] for name, value in zip(ours, theirs, strict=True)}
            found = relative_differences(first, second)
            if max(found.values()) > ONNX_TOLERANCE and is_tie(model, task, part[index : index + 1]):
                ties += 1
                continue
            worst = {name: float(np.max([value, worst.get(name, 0.0)])) for name, value in found.items()}
    aside = f", {ties} left out (their choice of queries is a tie)" if ties else ""
    if 2 * ties > len(images.pixels):
        raise UserError(f"--onnx: {task} could not be compared{aside}; give other images with --shards")
    figures = ", ".join(f"{name} {value:.1e}" for name, value in worst.items())
    print(f"onnx {task}: largest difference {figures} of the range (allowed {ONNX_TOLERANCE:.0e}) "
          f"on {images.what}{aside}")  # fmt: skip
    if not all(value <= ONNX_TOLERANCE for value in worst.values()):
        raise UserError(f"--onnx: onnxruntime's {task} outputs are not the model's ({figures} of the range, allowed "
                        f"{ONNX_TOLERANCE:.0e}); nothing was written, export without --onnx")  # fmt: skip
    return worst


def relative_differences(ours: Mapping[str, np.ndarray], theirs: Mapping[str, np.ndarray]) -> dict[str, float]:
    """Of each output of one image the largest difference, as a share of the range of ours.

    Args:
        ours: by name; with `boxes`, the first axis of all is that of the queries.
        theirs: the same, the queries in any order.
    """
    ranges = {name: max(float(np.ptp(value)), 1e-12) for name, value in ours.items()}
    if not all(value.shape == theirs[name].shape for name, value in ours.items()) or not all(
        np.isfinite(value).all() for side in (ours, theirs) for value in side.values()
    ):
        return dict.fromkeys(ours, float("inf"))
    if "boxes" in ours:
        order = matched(
            *(np.concatenate([side[name] / ranges[name] for name in ours], axis=1) for side in (ours, theirs))
        )
        theirs = {name: value[order] for name, value in theirs.items()}
    return {name: float(np.abs(ours[name] - theirs[name]).max()) / ranges[name] for name in ours}
