"""What one micro-batch of a task costs: activation memory and arithmetic, found by running it without its numbers."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode

from ufo_ds.assembly import build_head
from ufo_ds.data.batch import Batch
from ufo_ds.data.schema import TaskMeta
from ufo_ds.model.features import Features
from ufo_ds.model.joint import JointModel
from ufo_ds.model.trunk import Trunk
from ufo_ds.planning.counting import CostCounter
from ufo_ds.recipe import ElasticConfig, Recipe, TrunkConfig

BOXES = 8
"""Boxes a detection image is planned with; they decide over a few queries of the denoising branch."""


@dataclass(frozen=True)
class MicroBatchCost:
    """A forward and backward pass of one task on one rank.

    Attributes:
        images: (B, H, W) as the network gets them, before the trunk's padding.
        peak: most bytes of activations that are alive at a time.
        flops: in both directions; what checkpointing recomputes counts again.
    """

    images: tuple[int, int, int]
    peak: int
    flops: int


def fake_model(recipe: Recipe, metas: Mapping[str, TaskMeta], fake: FakeTensorMode) -> JointModel:
    """The recipe's model, all fake but for the detection head: shapes without numbers, and without their memory."""
    with torch.device("meta"):
        trunk = Trunk(recipe.model.bare(), list(metas), _settled(recipe.trunk))
        heads = {name: build_head(recipe, meta, trunk) for name, meta in metas.items() if name != "det"}
    with fake:
        for part in (trunk, *heads.values()):
            part.to_empty(device="cpu")
    if "det" in metas:
        heads["det"] = build_head(recipe, metas["det"], trunk)
    return JointModel(trunk, {name: heads[name] for name in metas})


def _settled(config: TrunkConfig) -> TrunkConfig:
    """The whole trunk, every task on a way of its own: what is learned costs the same whichever way it takes."""
    blocks = config.task_blocks
    kinds = {name: "specific" for name in ("ffn", "attention") if getattr(blocks, name) == "learned"}
    return dataclasses.replace(config, task_blocks=dataclasses.replace(blocks, **kinds), elastic=ElasticConfig())


def micro_batch_cost(model: JointModel, recipe: Recipe, task: str, fake: FakeTensorMode) -> MicroBatchCost:
    """Run a task's micro-batch with fake tensors; the detection head for real, on maps of noise.

    The detection loss matches boxes by their values, which fake tensors do not have.

    Args:
        model: of `fake_model`.
        recipe: batch, sizes, precision and checkpointing count.
        task: its name.
        fake: the mode of the model.
    """
    config = getattr(recipe.tasks, task)
    height, width = config.crop if task == "seg" else config.size
    passes = _Passes(recipe.train.precision == "bf16")
    with _no_gradients_kept(model.train()):
        if task == "det":
            peak = _detection_peak(model, passes, fake, config.batch, height, width)
        else:
            with fake:
                batch = planned_batch(task, config.batch, height, width)
                loss = passes.forward(lambda: model(batch)["loss"])
                passes.backward(loss)
            peak = passes.counter.peak
    return MicroBatchCost((config.batch, height, width), peak, passes.counter.flops)


def _detection_peak(
    model: JointModel, passes: _Passes, fake: FakeTensorMode, count: int, height: int, width: int
) -> int:
    """Bytes at the worst moment: in the head, beside what the trunk keeps, or in the trunk's backward."""
    with fake:
        images = torch.empty(count, 3, height, width, dtype=torch.uint8)
        features = passes.forward(lambda: model.trunk(images, "det"))
        kept, shapes, size = passes.counter.live, [tuple(one.shape) for one in features.maps], features.input_size
        loss = passes.forward(lambda: _joined(features.maps))
        features = None  # as in training, where by then only the graph holds them
        passes.counter.peak = kept
        passes.backward(loss)
    torch.manual_seed(0)
    maps = [torch.randn(shape, requires_grad=True) for shape in shapes]
    head = _Passes(passes.autocast)
    batch = planned_batch("det", count, height, width)
    loss = head.forward(lambda: model.heads["det"].loss(Features(maps, None, size), batch)["loss"])
    head.backward(loss)
    passes.counter.flops += head.counter.flops
    return max(passes.counter.peak, kept + head.counter.peak)


def _joined(maps: list[Tensor]) -> Tensor:
    """A scalar whose backward hands the maps what the head hands them: pieces of one gradient."""
    return (torch.cat(maps, dim=1) * 1.0).sum()


class _Passes:
    """Forward and backward of a part of the model, counted."""

    def __init__(self, autocast: bool) -> None:
        self.autocast, self.counter = autocast, CostCounter()

    def forward(self, action: Callable[[], Any]) -> Any:
        with self.counter, torch.autocast("cpu", dtype=torch.bfloat16, enabled=self.autocast):
            return action()

    def backward(self, loss: Tensor) -> None:
        with self.counter:
            loss.backward()


@contextmanager
def _no_gradients_kept(module: nn.Module) -> Iterator[None]:
    """Drop each parameter's gradient as it comes: ZeRO moves it into its bucket, which is counted there."""

    def drop(parameter: Tensor) -> None:
        parameter.grad = None

    handles = [p.register_post_accumulate_grad_hook(drop) for p in module.parameters() if p.requires_grad]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def planned_batch(task: str, count: int, height: int, width: int) -> Batch:
    """A batch of empty images with targets of the right form."""
    images = torch.zeros(count, 3, height, width, dtype=torch.uint8)
    source = {"file_name": "planned", "size": (height, width), "input_size": (height, width), "scale": 1.0}
    if task == "cls":
        targets = torch.zeros(count, dtype=torch.int64)
    elif task == "seg":
        targets = torch.zeros(count, height, width, dtype=torch.uint8)
    else:
        box = {"class_labels": torch.zeros(BOXES, dtype=torch.int64), "boxes": torch.full((BOXES, 4), 0.25)}
        targets = [box] * count
    return Batch(task, images, targets, [{**source, "image_id": 0}] * count)
