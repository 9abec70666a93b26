"""One rank of tests/training/test_routed_steps.py: routed and elastic steps under ZeRO-2, and their repetition."""

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
from ufo_ds.surgery.self_test import check_partitions
from ufo_ds.surgery.task_gradients import TaskGradients
from ufo_ds.surgery.zero import hold_partitions
from ufo_ds.training.engine_config import engine_config
from ufo_ds.training.optimizer import make_optimizer

STEPS, SAVED = 6, 3
METAS = {name: TaskMeta(name, "test", [ClassInfo(i, str(i)) for i in range(3)], {}) for name in ("cls", "seg")}
RECIPE = {
    "model": {"trunk": "vit_tiny_patch16_224", "pretrained": False, "depths": 2, "checkpointing": "torch",
              "trunk_kwargs": {"img_size": 32, "patch_size": 8, "embed_dim": 32, "depth": 3, "num_heads": 2}},
    "trunk": {"task_blocks": {"blocks": "last:2", "ffn": "learned", "norm": "specific"},
              "elastic": {"depth": [2], "heads": [1], "mlp": [0.5]}, "logits_lr_scale": 1000.0},
    "tasks": {"cls": {"size": [32, 32]}, "seg": {"crop": [32, 32], "width": 16}},
    "optimizer": {"layer_decay": 0.8},
    "surgery": {"scope": "block"},
    "train": {"precision": "fp32", "clip": 1.0},
    "deepspeed": "ds_configs/zero2_cpu.json",
}  # fmt: skip


def make_batch(task, step):
    generator = torch.Generator().manual_seed(10 * step + dist.get_rank())
    images = torch.randint(0, 256, (2, 3, 32, 32), dtype=torch.uint8, generator=generator)
    masks = torch.randint(0, 3, (2, 32, 32), generator=generator)
    return Batch(task, images, masks if task == "seg" else masks[:, 0, 0], [{"file_name": "a.jpg"}] * 2)


def start(seed):
    recipe = recipe_from(RECIPE, "test")
    torch.manual_seed(seed)
    model = build_model(recipe, METAS)
    optimizer = make_optimizer(model, recipe.optimizer)
    engine, *_ = deepspeed.initialize(model=model, optimizer=optimizer, config=engine_config(recipe, list(METAS)))
    partitions, depth = hold_partitions(engine), model.trunk.depth_of_parameters()
    return engine, TaskGradients(partitions, list(METAS), recipe.surgery, 0, depth)


def take_steps(engine, gradients, steps, records):
    engine.train()
    for step in steps:
        trunk = engine.module.trunk
        records[step] = trunk.begin_step(0, step, STEPS)
        records[step]["ways"] = {task: sorted(trunk.routing.training_route(task).own) for task in METAS}
        torch.manual_seed(step)
        for task in METAS:
            gradients.backward(task, engine(make_batch(task, step))["loss"])
        gradients.combine()
        engine.step()


def weights(engine):
    return torch.cat([value.detach().flatten() for value in engine.module.parameters()])


def on_all_ranks(vector):
    everyone = [torch.empty_like(vector) for _ in range(dist.get_world_size())]
    dist.all_gather(everyone, vector)
    return everyone


def main(folder):
    deepspeed.init_distributed(dist_backend="gloo")
    torch.set_num_threads(1)
    whole, again = {}, {}
    engine, gradients = start(0)
    check_partitions(gradients.holder)
    take_steps(engine, gradients, range(1, SAVED + 1), whole)
    engine.save_checkpoint(folder, tag="saved", save_latest=False)
    state = json.loads(json.dumps(gradients.state()))
    take_steps(engine, gradients, range(SAVED + 1, STEPS + 1), whole)
    expected = weights(engine)
    engine, gradients = start(1)
    engine.load_checkpoint(folder, tag="saved")
    gradients.restore(state)
    take_steps(engine, gradients, range(SAVED + 1, STEPS + 1), again)
    same = [torch.equal(expected, other) for other in on_all_ranks(expected)]
    resumed = torch.equal(expected, weights(engine))
    print("RESULT " + json.dumps({"same": same, "resumed": resumed, "whole": whole, "again": again}))


main(sys.argv[1])
stop()
leave(0)
