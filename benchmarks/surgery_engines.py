"""The ways to take a surgery step that `benchmarks/surgery.py` compares: same model, same batches, same optimizer.

Each is a class with `step()`: forward and backward of every task, combination by PCGrad, one AdamW step.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

import timm
import torch
from torch import Tensor, nn

from ufo_ds.model.checkpointing import checkpoint_blocks
from ufo_ds.recipe import SurgeryConfig
from ufo_ds.surgery.plain import PlainGradients
from ufo_ds.surgery.task_gradients import SHARED, TaskGradients

CLASSES = 10


class Model(nn.Module):
    """A timm ViT and a linear classifier for each task."""

    def __init__(self, trunk: str, tasks: int, checkpointing: bool) -> None:
        super().__init__()
        self.trunk = timm.create_model(trunk, num_classes=0)
        self.heads = nn.ModuleList(nn.Linear(self.trunk.num_features, CLASSES) for _ in range(tasks))
        checkpoint_blocks(self.trunk.blocks, "torch" if checkpointing else "none")

    def forward(self, task: int, images: Tensor, labels: Tensor) -> Tensor:
        """The loss of a batch of one task."""
        return self.loss(task, self.trunk(images), labels)

    def loss(self, task: int, tokens: Tensor, labels: Tensor) -> Tensor:
        """The loss from the trunk's output."""
        return nn.functional.cross_entropy(self.heads[task](tokens).float(), labels)


def make_batches(tasks: int, batch: int, seed: int, device: str) -> list[tuple[Tensor, Tensor]]:
    """One batch a task: images [B, 3, 224, 224] and labels [B]."""
    generator = torch.Generator().manual_seed(seed)
    return [
        (
            torch.randn(batch, 3, 224, 224, generator=generator).to(device),
            torch.randint(0, CLASSES, (batch,), generator=generator).to(device),
        )
        for _ in range(tasks)
    ]


def make_optimizer(model: Model) -> torch.optim.Optimizer:
    """AdamW, the trunk's parameters in a group of their own."""
    groups = [{"params": list(model.trunk.parameters()), SHARED: True}, {"params": list(model.heads.parameters())}]
    return torch.optim.AdamW(groups, lr=1e-4, fused=next(model.parameters()).is_cuda or None)


class Plain:
    """The plain sum: one backward a task, which adds up in `grad`."""

    def __init__(self, model: Model, batches: list[tuple[Tensor, Tensor]]) -> None:
        self.model, self.batches, self.optimizer = model, batches, make_optimizer(model)
        self.shared = list(model.trunk.parameters())

    def step(self) -> None:
        """A step of the plain sum."""
        self.optimizer.zero_grad()
        for task, batch in enumerate(self.batches):
            self.model(task, *batch).backward()
        self.optimizer.step()


class Ours(Plain):
    """This project's task gradients on a plain optimizer, without DeepSpeed."""

    def __init__(self, model: Model, batches: list[tuple[Tensor, Tensor]]) -> None:
        super().__init__(model, batches)
        tasks = [str(task) for task in range(len(batches))]
        self.gradients = TaskGradients(PlainGradients(self.optimizer), tasks, SurgeryConfig(), seed=0)

    def step(self) -> None:
        """See `TaskGradients`."""
        for task, batch in enumerate(self.batches):
            self.gradients.backward(str(task), self.model(task, *batch))
        self.gradients.combine()
        self.optimizer.step()


class TorchJD(Plain):
    """TorchJD's own engine: `mtl_backward` to Jacobians, then its PCGrad. Rows one after another (the less memory)."""

    chunk: int | None = 1

    def step(self) -> None:
        """As in TorchJD's documentation of multi-task learning, with a batch of its own for each task."""
        from torchjd.aggregation import PCGrad
        from torchjd.autojac import jac_to_grad, mtl_backward

        self.optimizer.zero_grad()
        features = [self.model.trunk(images) for images, _ in self.batches]
        losses = [
            self.model.loss(task, tokens, labels)
            for task, (tokens, (_, labels)) in enumerate(zip(features, self.batches, strict=True))
        ]
        mtl_backward(losses, features=features, parallel_chunk_size=self.chunk)
        jac_to_grad(self.shared, PCGrad())
        self.optimizer.step()


class TorchJDRows(Plain):
    """TorchJD's PCGrad aggregator on a Jacobian whose rows are made by hand, one backward a task."""

    def step(self) -> None:
        """Rows by `autograd.grad`; heads by the same call."""
        from torchjd.aggregation import PCGrad

        self.optimizer.zero_grad()
        rows = []
        for task, batch in enumerate(self.batches):
            own = list(self.model.heads[task].parameters())
            gradients = torch.autograd.grad(self.model(task, *batch), self.shared + own)
            rows.append(torch.cat([gradient.flatten() for gradient in gradients[: len(self.shared)]]))
            for parameter, gradient in zip(own, gradients[len(self.shared) :], strict=True):
                parameter.grad = gradient
        _write(self.shared, PCGrad()(torch.stack(rows)))
        self.optimizer.step()


class LibMTL(Plain):
    """The way of LibMTL's PCGrad: all losses first, then a dense [T, P] matrix of gradients, projected row by row."""

    def step(self) -> None:
        """Algorithm 1 of arXiv 2001.06782 on whole vectors."""
        self.optimizer.zero_grad()
        losses = [self.model(task, *batch) for task, batch in enumerate(self.batches)]
        count = len(losses)
        grads_TP = torch.zeros(count, sum(p.numel() for p in self.shared), device=self.shared[0].device)
        for task, loss in enumerate(losses):
            loss.backward()
            grads_TP[task] = torch.cat([p.grad.flatten() for p in self.shared])
            for parameter in self.shared:
                parameter.grad = None
        projected_TP = grads_TP.clone()
        for i in range(count):
            for j in torch.randperm(count).tolist():
                product = torch.dot(projected_TP[i], grads_TP[j])
                if product < 0:
                    projected_TP[i] -= product * grads_TP[j] / (grads_TP[j].norm().pow(2) + 1e-8)
        _write(self.shared, projected_TP.sum(0))
        self.optimizer.step()


def _write(parameters: list[nn.Parameter], flat: Tensor) -> None:
    for parameter, piece in zip(parameters, flat.split([p.numel() for p in parameters]), strict=True):
        parameter.grad = piece.view_as(parameter)


class Zero:
    """A ZeRO-2 engine: the plain sum (the accumulation boundary on the last backward only), or surgery."""

    def __init__(self, model: Model, batches: list[tuple[Tensor, Tensor]], precision: str = "fp32") -> None:
        import deepspeed

        from ufo_ds.surgery.zero import ENGINE_SETTINGS, hold_partitions

        config = {
            "train_micro_batch_size_per_gpu": 1,
            "gradient_clipping": 0.0,
            **ENGINE_SETTINGS,
            "zero_optimization": {"stage": 2, "overlap_comm": batches[0][0].is_cuda, "reduce_bucket_size": 50_000_000},
        }
        if precision == "bf16":
            config["torch_autocast"] = {"enabled": True, "dtype": "bfloat16", "lower_precision_safe_modules": []}
        self.engine = deepspeed.initialize(model=model, optimizer=make_optimizer(model), config=config)[0]
        self.batches, self.tasks = batches, [str(task) for task in range(len(batches))]
        self.gradients = TaskGradients(hold_partitions(self.engine), self.tasks, SurgeryConfig(), seed=0)

    def plain(self) -> None:
        """Three backwards that DeepSpeed adds up, and a step."""
        for task, batch in enumerate(self.batches):
            self.engine.set_gradient_accumulation_boundary(task == len(self.batches) - 1)
            self.engine.backward(self.engine(task, *batch))
        self.engine.step()

    def step(self) -> None:
        """The same with surgery."""
        for task, batch in enumerate(self.batches):
            self.gradients.backward(self.tasks[task], self.engine(task, *batch))
        self.gradients.combine()
        self.engine.step()


class ZeroPlain(Zero):
    """The plain sum as the engine's `step`."""

    step = Zero.plain


@contextmanager
def stopwatch(target: object, name: str, seconds: list[float], wait) -> Iterator[None]:
    """Collect the time of every call of `target.name`."""
    original = getattr(target, name)

    def timed(*arguments, **options):
        wait()
        began = time.perf_counter()
        result = original(*arguments, **options)
        wait()
        seconds.append(time.perf_counter() - began)
        return result

    setattr(target, name, timed)
    try:
        yield
    finally:
        setattr(target, name, original)


def model_flops(trunk: str) -> float:
    """Floating-point operations of one image forward and backward, as torch counts them (recomputation left out)."""
    from torch.utils.flop_counter import FlopCounterMode

    model = Model(trunk, 1, False)
    with FlopCounterMode(display=False) as counter:
        model(0, torch.randn(1, 3, 224, 224), torch.zeros(1, dtype=torch.long)).backward()
    return float(counter.get_total_flops())


def matrix_rate(device: torch.device, precision: str) -> float:
    """This device's measured rate of a large matrix product, in operations a second."""
    size, dtype = (8192, torch.bfloat16) if device.type == "cuda" else (2048, torch.float32)
    a, b = (torch.randn(size, size, device=device, dtype=dtype if precision == "bf16" else None) for _ in range(2))
    wait = torch.cuda.synchronize if device.type == "cuda" else lambda: None
    best = float("inf")
    for _ in range(5):
        wait()
        began = time.perf_counter()
        a @ b
        wait()
        best = min(best, time.perf_counter() - began)
    return 2 * size**3 / best


ENGINES = {
    "three backwards, plain sum": Plain,
    "ours, no DeepSpeed": Ours,
    "plain sum on ZeRO-2": ZeroPlain,
    "ours on ZeRO-2": Zero,
    "TorchJD aggregator on hand-made rows": TorchJDRows,
    "LibMTL's way (dense T x P)": LibMTL,
    "TorchJD mtl_backward": TorchJD,
}
