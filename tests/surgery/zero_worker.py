"""One rank of tests/surgery/test_zero.py: a small ViT with three heads on ZeRO-2, against autograd in float64."""

import copy
import json
import sys

import deepspeed
import timm
import torch
import torch.distributed as dist
from torch import nn

from ufo_ds.distributed import stop
from ufo_ds.surgery.weightings import combine_weights
from ufo_ds.surgery.zero import SHARED, TaskGradients

TASKS = ["a", "b", "c"]


class Model(nn.Module):
    """A trunk and three classifiers. The task is an argument, as in the joint model."""

    def __init__(self):
        super().__init__()
        self.trunk = timm.create_model(
            "vit_tiny_patch16_224", img_size=32, patch_size=8, embed_dim=48, depth=3, num_heads=3, num_classes=0
        )
        self.heads = nn.ModuleDict({task: nn.Linear(48, 5) for task in TASKS})

    def forward(self, task, images, labels):
        return nn.functional.cross_entropy(self.heads[task](self.trunk(images)), labels)


def make_batches(world):
    generator = torch.Generator().manual_seed(1)
    return {
        task: [
            (torch.randn(4, 3, 32, 32, generator=generator), torch.randint(0, 5, (4,), generator=generator))
            for _ in range(world)
        ]
        for task in TASKS
    }


def make_engine(model, overlap):
    trunk = list(model.trunk.parameters())
    groups = [
        {"params": trunk[: len(trunk) // 2], SHARED: True},
        {"params": trunk[len(trunk) // 2 :], SHARED: True},
        {"params": list(model.heads.parameters()), SHARED: False},
    ]
    config = {
        "train_micro_batch_size_per_gpu": 1,
        "gradient_clipping": 0.0,
        "communication_data_type": "fp32",
        "data_types": {"grad_accum_dtype": "fp32"},
        "zero_allow_untested_optimizer": True,
        "zero_optimization": {"stage": 2, "overlap_comm": overlap, "reduce_bucket_size": 20000},
    }
    return deepspeed.initialize(model=model, optimizer=torch.optim.AdamW(groups, lr=1e-3), config=config)[0]


def whole_gradient(engine, groups):
    """The averaged gradient of some optimizer groups, put together from all ranks' partitions, in parameter order."""
    pieces = []
    for group in groups:
        part = torch.cat([one.flatten() for one in engine.optimizer.averaged_gradients[group]])
        parts = [torch.empty_like(part) for _ in range(dist.get_world_size())]
        dist.all_gather(parts, part)
        size = sum(p.numel() for p in engine.optimizer.bit16_groups[group])
        pieces.append(torch.cat(parts)[:size])
    return torch.cat(pieces).double()


def reference(model, batches, world):
    """Task gradients on the trunk and the summed gradient on the heads, in float64, by plain autograd."""
    model = copy.deepcopy(model).double()
    rows, heads = [], 0
    for task in TASKS:
        loss = sum(model(task, images.double(), labels) for images, labels in batches[task]) / world
        parameters = list(model.trunk.parameters()) + list(model.heads.parameters())
        gradients = torch.autograd.grad(loss, parameters, allow_unused=True, materialize_grads=True)
        count = len(list(model.trunk.parameters()))
        rows.append(torch.cat([one.flatten() for one in gradients[:count]]))
        heads = heads + torch.cat([one.flatten() for one in gradients[count:]])
    return torch.stack(rows), heads


def relative(value, expected):
    return float((value - expected).norm() / expected.norm())


def main():
    overlap = "overlap" in sys.argv
    deepspeed.init_distributed(dist_backend="gloo")
    rank, world = dist.get_rank(), dist.get_world_size()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    model = Model()
    batches = make_batches(world)
    rows, heads = reference(model, batches, world)
    engine = make_engine(model, overlap)
    result = {}

    # DeepSpeed alone: three backwards before a step, each at the boundary, as its engine is used by hand.
    engine.set_gradient_accumulation_boundary(True)
    for task in TASKS:
        engine.backward(engine(task, *batches[task][rank]))
    alone = whole_gradient(engine, [0, 1])
    result["alone_is_last"] = relative(alone, rows[-1])
    result["alone_is_sum"] = relative(alone, rows.sum(0))
    engine.optimizer.averaged_gradients = dict.fromkeys(range(3))

    for step, method in enumerate(("none", "pcgrad"), start=1):
        gradients = TaskGradients(engine, TASKS, method, seed=0)
        for task in TASKS:
            gradients.backward(task, engine(task, *batches[task][rank]))
        report = gradients.combine(step)
        weights = combine_weights(method, rows @ rows.T, 0, step)
        result[method] = relative(whole_gradient(engine, [0, 1]), weights @ rows)
        result[method + "_heads"] = relative(whole_gradient(engine, [2]), heads)
        result[method + "_gram"] = relative(report.gram, rows @ rows.T)
        result[method + "_conflicts"] = report.as_record()["conflicts"]
        engine.optimizer.averaged_gradients = dict.fromkeys(range(3))

    # A whole step: the same weights on every rank, to the bit, and the next harvest starts clean.
    for step in (3, 4):
        gradients = TaskGradients(engine, TASKS, "pcgrad", seed=0)
        for task in TASKS:
            gradients.backward(task, engine(task, *batches[task][rank]))
        gradients.combine(step)
        engine.step()
    flat = torch.cat([p.detach().flatten() for p in model.parameters()])
    everyone = [torch.empty_like(flat) for _ in range(world)]
    dist.all_gather(everyone, flat)
    result["same_weights"] = all(torch.equal(everyone[0], other) for other in everyone)
    result["norm"] = float(engine.get_global_grad_norm())
    if rank == 0:
        print("RESULT " + json.dumps(result))


main()
stop()  # A gloo thread that outlives the interpreter aborts the process, now and then.
