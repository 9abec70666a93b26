"""One rank of tests/surgery/test_zero.py: a small ViT with three heads on ZeRO, against autograd in float64.

Arguments: `key=value` pairs of `Case`. Prints `RESULT {json}` on rank 0.
"""

import copy
import dataclasses
import json
import sys

import deepspeed
import timm
import torch
import torch.distributed as dist
from torch import nn

from ufo_ds.distributed import stop
from ufo_ds.errors import leave
from ufo_ds.recipe import SurgeryConfig
from ufo_ds.surgery.methods import make_weighting
from ufo_ds.surgery.plain import PlainGradients
from ufo_ds.surgery.self_test import check_partitions
from ufo_ds.surgery.task_gradients import SHARED, TaskGradients
from ufo_ds.surgery.weighting import drawn
from ufo_ds.surgery.zero import ENGINE_SETTINGS, hold_partitions

TASKS = ["a", "b", "c"]


@dataclasses.dataclass
class Case:
    methods: str = "none,pcgrad"
    stage: int = 2
    overlap: bool = False
    precision: str = "fp32"  # fp32 | bf16 (weights) | autocast | autocast_bf16_traffic
    accumulate: int = 1
    offload: bool = False
    scope: str = "trunk"
    groups: int = 2  # of the trunk
    off: str = ""  # keys of zero_optimization that are switched off

    @classmethod
    def parse(cls, arguments):
        kinds = {field.name: type(field.default) for field in dataclasses.fields(cls)}
        pairs = (argument.split("=") for argument in arguments if not argument.startswith("--"))
        return cls(**{key: value == "1" if kinds[key] is bool else kinds[key](value) for key, value in pairs})


class Model(nn.Module):
    """A trunk and three classifiers. The task is an argument, as in the joint model."""

    def __init__(self):
        super().__init__()
        self.trunk = timm.create_model(
            "vit_tiny_patch16_224", img_size=32, patch_size=8, embed_dim=48, depth=3, num_heads=3, num_classes=0
        )
        self.heads = nn.ModuleDict({task: nn.Linear(48, 5) for task in TASKS})

    def forward(self, task, images, labels):
        tokens = self.trunk(images.to(self.trunk.cls_token.dtype))
        loss = nn.functional.cross_entropy(self.heads[task](tokens), labels)
        if task == "c":  # pulls against the others, so that there is something to mend
            loss = loss - 0.8 * nn.functional.cross_entropy(self.heads["a"](tokens), labels)
        return loss


def depth_of(model):
    """For each trunk parameter its block."""
    return {
        p: name.split(".")[1] if name.startswith("blocks.") else "rest" for name, p in model.trunk.named_parameters()
    }


def make_batches(case, world):
    """By task: micro-batches x ranks x (images, labels)."""
    generator = torch.Generator().manual_seed(1)
    shape = (case.accumulate, world, 4)
    images = torch.randn(*shape, 3, 32, 32, generator=generator)
    noise = torch.randn(len(TASKS), *shape, 3, 32, 32, generator=generator)
    labels = torch.randint(0, 5, shape, generator=generator)
    return {
        task: [
            [(images[m, r] + 0.3 * noise[t, m, r], labels[m, r]) for r in range(world)]
            for m in range(case.accumulate)
        ]
        for t, task in enumerate(TASKS)
    }


def optimizer_groups(case, model):
    trunk = list(model.trunk.parameters())
    size = -(-len(trunk) // case.groups)
    return [{"params": trunk[i : i + size], SHARED: True} for i in range(0, len(trunk), size)] + [
        {"params": list(model.heads.parameters()), SHARED: False}
    ]


def make_engine(case, model):
    zero = {"stage": case.stage, "overlap_comm": case.overlap, "reduce_bucket_size": 20000}
    zero |= {key: False for key in case.off.split(",") if key}
    if case.offload:
        zero["offload_optimizer"] = {"device": "cpu"}
    config = {
        "train_micro_batch_size_per_gpu": 1,
        "gradient_clipping": 0.0,
        "zero_optimization": zero,
        **ENGINE_SETTINGS,
    }
    if case.precision == "bf16":
        config["bf16"] = {"enabled": True}
    if case.precision.startswith("autocast"):
        config["torch_autocast"] = {"enabled": True, "dtype": "bfloat16"}
        if case.precision == "autocast":
            config["torch_autocast"]["lower_precision_safe_modules"] = []
    optimizer = torch.optim.AdamW(optimizer_groups(case, model), lr=1e-3, eps=1e-3)
    return deepspeed.initialize(model=model, optimizer=optimizer, config=config)[0]


def whole(holder, parts):
    """Gradients of some groups, put together from all ranks' partitions, in parameter order, fp64."""
    pieces = []
    for group, part in parts:
        flat = torch.cat([one.flatten() for one in part])
        everyone = [torch.empty_like(flat) for _ in range(holder.world)]
        dist.all_gather(everyone, flat)
        pieces.append(torch.cat(everyone)[: sum(p.numel() for p in holder.parameters(group))])
    return torch.cat(pieces).double()


def reference(case, model, batches):
    """Task gradients on the trunk [T, P] and the summed gradient on the heads, fp64, by plain autograd."""
    model = copy.deepcopy(model).double()
    rows, heads = [], 0
    trunk = list(model.trunk.parameters())
    for task in TASKS:
        flat = [pair for micro in batches[task] for pair in micro]
        loss = sum(model(task, images.double(), labels) for images, labels in flat) / len(flat)
        parameters = trunk + list(model.heads.parameters())
        gradients = torch.autograd.grad(loss, parameters, allow_unused=True, materialize_grads=True)
        rows.append(torch.cat([one.flatten() for one in gradients[: len(trunk)]]))
        heads = heads + torch.cat([one.flatten() for one in gradients[len(trunk) :]])
    return torch.stack(rows), heads


def expected_combination(config, rows, depth, step):
    """The combination of whole fp64 gradients, by the weighting alone."""
    draw = f"surgery 0 {step}"
    if config.scope == "trunk":
        return make_weighting(config, TASKS).weights(rows @ rows.T, draw) @ rows
    blocks = list(dict.fromkeys(depth.values()))
    of_element = torch.cat([torch.full((p.numel(),), blocks.index(name)) for p, name in depth.items()])
    combined = torch.zeros_like(rows[0])
    for i in range(len(blocks)):
        part = rows[:, of_element == i]
        name = draw + (f" {i}" if i else "")
        combined[of_element == i] = make_weighting(config, TASKS).weights(part @ part.T, name) @ part
    return combined


def published_aggregators(rows):
    """TorchJD's own aggregators of whole Jacobians, and what ours multiply them by."""
    import torchjd.aggregation as library

    rms = rows.square().sum(1).mean().sqrt()
    return {
        "none": (library.Sum(), 1),
        "pcgrad": (library.PCGrad(), 1),
        "gradvac": (library.GradVac(), 1),
        "mgda": (library.MGDA(), 3),
        "imtl_g": (library.IMTLG(), 3),
        "aligned_mtl": (library.AlignedMTL(), 3),
        "cagrad": (library.CAGrad(c=0.4), 3 / 1.4),
        "upgrad": (library.UPGrad(), 3),
        "dualproj": (library.DualProj(), 3),
        # TorchJD's solver silently gives up on gradients whose norm is far from 1.
        "nash_mtl": (lambda rows: library.NashMTL(n_tasks=3, max_norm=0.0)(rows / rms) * rms, 1),
    }


def relative(value, expected):
    return float((value - expected).norm() / expected.norm())


def backward_all(case, gradients, engine, batches, rank):
    for task in TASKS:
        for micro, ranks in enumerate(batches[task]):
            loss = engine(task, *ranks[rank]) / case.accumulate
            gradients.backward(task, loss, last=micro == case.accumulate - 1)


def step_without(case, engine, holder, batches, rows, depth, rank):
    """Steps that the last rank spoils: of all tasks, then of one. What was skipped, and the error of the rest."""
    config, skipped = SurgeryConfig(method="mgda", scope=case.scope), []
    gradients = TaskGradients(holder, TASKS, config, seed=0, depth=depth)
    for spoiled in (TASKS, ["b"]):
        for task in TASKS:
            for micro, ranks in enumerate(batches[task]):
                bad = task in spoiled and rank == holder.world - 1 and micro == 0
                loss = engine(task, *ranks[rank]) / case.accumulate * (float("nan") if bad else 1.0)
                gradients.backward(task, loss, last=micro == case.accumulate - 1)
        skipped.append(gradients.combine().skipped)
    trunk = range(len(engine.optimizer.bit16_groups) - 1)
    combined = whole(holder, [(group, published(engine, holder, group)) for group in trunk])
    zeroed = rows * torch.tensor([task != "b" for task in TASKS])[:, None]
    holder.forget()
    return skipped, relative(combined, expected_combination(config, zeroed, depth, 2))


def flat_weights(model):
    return torch.cat([p.detach().flatten().float() for p in model.parameters()])


def plain_steps(case, model, batches, steps):
    """The same steps without DeepSpeed, in one process. Returns the weights."""
    optimizer = torch.optim.AdamW(optimizer_groups(case, model), lr=1e-3, eps=1e-3)
    gradients = TaskGradients(PlainGradients(optimizer), TASKS, SurgeryConfig(method="pcgrad"), seed=0)
    for _ in range(steps):
        for task in TASKS:
            pairs = [pair for micro in batches[task] for pair in micro]
            for i, pair in enumerate(pairs):
                gradients.backward(task, model(task, *pair) / len(pairs), last=i == len(pairs) - 1)
        gradients.combine()
        optimizer.step()
    return flat_weights(model)


def main():
    case = Case.parse(sys.argv[1:])
    deepspeed.init_distributed(dist_backend="gloo")
    rank, world = dist.get_rank(), dist.get_world_size()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    model = Model()
    batches = make_batches(case, world)
    rows, heads = reference(case, model, batches)
    twin = copy.deepcopy(model)
    engine = make_engine(case, model)
    depth, result = depth_of(model), {}
    trunk = range(len(engine.optimizer.bit16_groups) - 1)
    last = len(engine.optimizer.bit16_groups) - 1

    if case.stage == 2 and case.precision == "fp32" and not case.offload and case.accumulate == 1:
        # DeepSpeed alone: three backwards before a step, each at the boundary, as its engine is used by hand.
        engine.set_gradient_accumulation_boundary(True)
        for task in TASKS:
            engine.backward(engine(task, *batches[task][0][rank]))
        holder = hold_partitions(engine)
        alone = whole(holder, [(group, holder.take(group)) for group in trunk])
        result["alone_is_last"] = relative(alone, rows[-1])
        result["alone_is_sum"] = relative(alone, rows.sum(0))
        holder.forget()

    holder = hold_partitions(engine)
    before = flat_weights(model)
    check_partitions(holder, case.accumulate)
    result["self_test_left_weights"] = torch.equal(before, flat_weights(model))

    for method in case.methods.split(","):
        config = SurgeryConfig(method=method, scope=case.scope)
        gradients = TaskGradients(holder, TASKS, config, seed=0, depth=depth)
        backward_all(case, gradients, engine, batches, rank)
        kept = gradients._parts or None
        own = [whole(holder, [(g, kept[task][g]) for g in trunk]) for task in TASKS] if kept else None
        findings = gradients.combine()
        parts = [(group, published(engine, holder, group)) for group in range(last + 1)]
        combined = whole(holder, parts[:-1])
        expected = expected_combination(config, rows, depth, 1)
        result[method] = {
            "combined": relative(combined, expected),
            "heads": relative(whole(holder, parts[-1:]), heads),
            "gram": relative(findings.gram, rows @ rows.T) if findings.grams is not None else None,
            "conflicts": findings.as_record()["conflicts"],
            "failed": findings.failed,
            "norm": abs(holder.norm() / float(torch.cat([combined, whole(holder, parts[-1:])]).norm()) - 1),
        }
        if case.scope == "trunk" and method in published_aggregators(rows):
            aggregator, unit = published_aggregators(rows)[method]
            with drawn("surgery 0 1"):
                result[method]["torchjd"] = relative(combined, unit * aggregator(rows))
        if own:  # the combination alone: of the partitions as they came, in whatever precision
            expected = expected_combination(config, torch.stack(own), depth, 1)
            result[method]["combination"] = relative(combined, expected)
        holder.forget()

    result["skipped"], result["without"] = step_without(case, engine, holder, batches, rows, depth, rank)

    # Whole steps: the same weights on every rank, to the bit, and on the plain path.
    gradients = TaskGradients(holder, TASKS, SurgeryConfig(method="pcgrad"), seed=0)
    for _ in range(2):
        backward_all(case, gradients, engine, batches, rank)
        gradients.combine()
        engine.step()
    flat = flat_weights(model)
    everyone = [torch.empty_like(flat) for _ in range(world)]
    dist.all_gather(everyone, flat)
    result["same_weights"] = all(torch.equal(everyone[0], other) for other in everyone)
    result["moved"] = float((flat - before).norm())
    result["plain"] = relative(flat - before, plain_steps(case, twin, batches, 2) - before)
    if rank == 0:
        print("RESULT " + json.dumps(result))


def published(engine, holder, group):
    """What the engine's next step would take."""
    if engine.optimizer.cpu_offload:
        return holder._cut(group, engine.optimizer.single_partition_of_fp32_groups[group].grad)
    return engine.optimizer.averaged_gradients[group]


main()
stop()
leave(0)
