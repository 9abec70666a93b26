"""One task's network as an ONNX file, by torch's exporter (needs onnx, onnxscript and onnxruntime)."""

from __future__ import annotations

import importlib.util
import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ufo_ds.errors import UserError
from ufo_ds.files import sha256_of
from ufo_ds.model.extraction import single_task
from ufo_ds.model.joint import JointModel

OPSETS = (18, 23)
"""Lowest and highest ONNX opset: what torch's exporter and the onnxruntime of setup.cfg both have."""
INPUT = "images"


class _Network(nn.Module):
    """uint8 images -> the outputs of `Head.raw`, as a tuple."""

    def __init__(self, model: JointModel, task: str) -> None:
        super().__init__()
        model = single_task(model, task)  # a learned way is data, which no tracer follows
        self.trunk, self.head, self.task = model.trunk, model.heads[task], task

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        return tuple(self.head.raw(self.trunk(images, self.task)).values())


def require(opset: int) -> None:
    """See that ONNX can be written at all. Raises `UserError`."""
    if not OPSETS[0] <= opset <= OPSETS[1]:
        raise UserError(f"--opset {opset}: must be {OPSETS[0]} to {OPSETS[1]}")
    for name in ("onnx", "onnxscript", "onnxruntime"):
        if importlib.util.find_spec(name) is None:
            raise UserError(f"--onnx: {name} is not installed: pip install 'ufo-ds[onnx]'")


def write(model: JointModel, task: str, size: tuple[int, int], opset: int, file: Path) -> dict[str, Any]:
    """Write one task of a model on the CPU; weights of more than 2 GB go to `<file>.data`.

    Args:
        model: in evaluation mode. Its decoder may hold traced values afterwards: do not train it.
        task: name.
        size: (height, width) of the input, pixels. It is fixed, as position embeddings and anchors are constants of
            it; the batch is free.
        opset: of the file.
        file: to write.

    Returns:
        What the config says of it.

    Raises:
        UserError: the model cannot be expressed.
    """
    images = torch.zeros((2, 3, *size), dtype=torch.uint8)
    names = list(model.raw(task, images))
    try:
        with _quiet(), torch.no_grad():
            free = {INPUT: {0: torch.export.Dim("batch")}}
            # Strict: the decoders take len() of a tensor, which would fix the batch otherwise.
            program = torch.export.export(_Network(model, task).eval(), (images,), dynamic_shapes=free, strict=True)
            written = torch.onnx.export(program, None, input_names=[INPUT], output_names=names, opset_version=opset,
                                        dynamo=True, verbose=False, dynamic_shapes={INPUT: {0: "batch"}})  # fmt: skip
            for node in written.model.graph.all_nodes():
                node.metadata_props.clear()  # lines and paths of the code it was traced from: half of a small file
            written.save(file)
    except Exception as error:  # whatever the exporter has for an operator it does not know
        line = str(error).strip().split("\n")[0]
        raise UserError(f"--onnx: torch {torch.__version__} cannot express {task} in opset {opset} "
                        f"({type(error).__name__}: {line[:300]}); export without --onnx") from None  # fmt: skip
    return {**_describe(file), "opset": opset, "padded": [side + -side % model.trunk.multiple for side in size]}


def open_session(file: Path) -> Any:
    """An onnxruntime session on the CPU, with as many threads as torch has."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    # Threads that wait at full speed for the next call would slow whatever runs beside or after this one.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    return onnxruntime.InferenceSession(file, options, providers=["CPUExecutionProvider"])


def _describe(file: Path) -> dict[str, Any]:
    session = open_session(file)
    entry: dict[str, Any] = {
        "file": file.name,
        "sha256": sha256_of(file),
        "inputs": {one.name: {"type": one.type, "shape": one.shape} for one in session.get_inputs()},
        "outputs": {one.name: {"type": one.type, "shape": one.shape} for one in session.get_outputs()},
    }
    if (data := file.with_name(file.name + ".data")).is_file():
        entry |= {"data": data.name, "data_sha256": sha256_of(data)}
    return entry


@contextmanager
def _quiet() -> Iterator[None]:
    """Without the exporter's warnings and progress, which are about its own insides."""
    level = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(level)
