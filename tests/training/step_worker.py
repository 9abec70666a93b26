"""One rank of tests/training/test_step.py: a real step of the joint model, by checkpointing and precision."""

import json
import sys

import deepspeed
import torch
import torch.distributed as dist

from ufo_ds.assembly import build_model
from ufo_ds.command_line import recipe_from
from ufo_ds.data.batch import Batch
from ufo_ds.data.schema import ClassInfo, TaskMeta
from ufo_ds.distributed import stop
from ufo_ds.errors import leave
from ufo_ds.recipe import SurgeryConfig
from ufo_ds.surgery.task_gradients import TaskGradients
from ufo_ds.surgery.zero import hold_partitions
from ufo_ds.training.engine_config import engine_config
from ufo_ds.training.optimizer import make_optimizer

TASKS = ["cls", "det", "seg"]
DECODER = {"decoder_layers": 2, "num_queries": 8, "num_denoising": 8, "encoder_ffn_dim": 32, "decoder_ffn_dim": 32,
           "encoder_attention_heads": 4, "decoder_attention_heads": 4}  # fmt: skip


def make_recipe(checkpointing, precision):
    trunk = {"img_size": 32, "patch_size": 8, "embed_dim": 48, "depth": 3, "num_heads": 3}
    return recipe_from({
        "model": {"trunk": "vit_tiny_patch16_224", "trunk_kwargs": trunk, "pretrained": False, "depths": 3,
                  "drop_path": 0.2, "checkpointing": checkpointing},
        "tasks": {"det": {"width": 32, "levels": [8, 16], "decoder_kwargs": DECODER}, "seg": {"width": 16}},
        "train": {"precision": precision},
        "deepspeed": "ds_configs/zero2_cpu.json",
    }, "test")  # fmt: skip


def make_batch(task, rank):
    generator = torch.Generator().manual_seed(10 + rank)
    images = torch.randint(0, 256, (2, 3, 32, 32), dtype=torch.uint8, generator=generator)
    # Rank 1 sees no box: the ranks must agree on which parameters get a gradient all the same.
    boxes = torch.tensor([[0.5, 0.5, 0.4, 0.4]])[: 1 - rank]
    box = {"class_labels": torch.zeros(len(boxes), dtype=torch.long), "boxes": boxes}
    targets = {
        "cls": torch.tensor([0, 2]),
        "det": [box, box],
        "seg": torch.randint(0, 3, (2, 32, 32), generator=generator),
    }
    return Batch(task, images, targets[task], [{"file_name": "a.jpg"}] * 2)


def main():
    checkpointing, precision = sys.argv[1:3]
    deepspeed.init_distributed(dist_backend="gloo")
    torch.set_num_threads(1)
    recipe = make_recipe(checkpointing, precision)
    metas = {name: TaskMeta(name, "test", [ClassInfo(i, str(i)) for i in range(3)], {}) for name in TASKS}
    torch.manual_seed(0)
    model = build_model(recipe, metas)
    settings = engine_config(recipe, TASKS)
    engine, *_ = deepspeed.initialize(model=model, optimizer=make_optimizer(model, recipe.optimizer), config=settings)
    gradients = TaskGradients(hold_partitions(engine), TASKS, SurgeryConfig(), 0)
    torch.manual_seed(1)
    losses = {}
    for task in TASKS:
        loss = engine(make_batch(task, dist.get_rank()))["loss"]
        losses[task] = float(loss.detach())
        gradients.backward(task, loss)
    report = gradients.combine()
    engine.step()
    weights = torch.cat([value.detach().flatten() for value in model.parameters()])
    everyone = [torch.empty_like(weights) for _ in range(dist.get_world_size())]
    dist.all_gather(everyone, weights)
    if dist.get_rank() == 0:
        result = {"losses": losses, "gram": report.gram.tolist(), "norm": float(engine.get_global_grad_norm()),
                  "same": all(torch.equal(weights, other) for other in everyone),
                  "dtypes": sorted({str(value.dtype) for value in model.parameters()})}  # fmt: skip
        print("RESULT " + json.dumps(result))


main()
stop()
leave(0)
