"""Routing: modules of the trunk of which each task has a copy of its own, or learns whether to take it."""

from __future__ import annotations

import copy
import math
import random
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from ufo_ds.model.slicing import Narrow
from ufo_ds.recipe import Width

WHOLE = Width()
SHARED, OWN = 0, 1
"""The two ways that a task's logits are of."""
OWN_COPIES, LOGITS = "own", "logits"
"""Below the name of a routed module: `<name>.own.<task>.<parameter>`, `<name>.logits.<task>`."""


@dataclass(frozen=True)
class Route:
    """The way of one forward pass through the trunk; the same in its recomputation.

    Attributes:
        task: whose; None for a trunk in which tasks do not part.
        own: learned places at which the task takes its own copy.
        noise: by learned place, what chance adds to the difference of the logits; empty in evaluation.
        temperature: of the softmax.
        width: of the trunk.
    """

    task: str | None = None
    own: frozenset[str] = frozenset()
    noise: dict[str, float] = field(default_factory=dict)
    temperature: float = 1.0
    width: Width = WHOLE


class Way:
    """Holds the route of the pass that runs. Blocks are called by timm, which hands no such thing through."""

    def __init__(self) -> None:
        self.route = Route()

    @contextmanager
    def taken(self, route: Route) -> Iterator[None]:
        """Within, modules go by `route`."""
        before, self.route = self.route, route
        try:
            yield
        finally:
            self.route = before


class Part:
    """A module of a block that does not run the same for every task and step.

    Its `forward` is replaced in place, so that the names of the shared parameters stay those of the trunk.

    Args:
        way: of the trunk.
        block: of the trunk.
        name: of the module in the block. It may have weights of a pretraining: all copies start from them.
        place: that the log and the draws know it by, e.g. `block 3 ffn`.
        kind: `shared`, `specific` or `learned`.
        tasks: that have a copy.
        elastic: whether it can run at less than its width.
    """

    def __init__(
        self, way: Way, block: nn.Module, name: str, place: str, kind: str, tasks: Sequence[str], elastic: bool
    ) -> None:
        module = getattr(block, name)
        self.way, self.place, self.kind = way, place, kind
        self.narrow = Narrow(module) if elastic else None
        self.plain = module.forward
        if kind != "shared":
            copies = nn.ModuleDict({task: copy.deepcopy(module) for task in tasks})
            if kind == "specific":  # the shared one would be on no task's path
                module = nn.Module()
                setattr(block, name, module)
            module.add_module(OWN_COPIES, copies)
        if kind == "learned":
            module.add_module(LOGITS, nn.ParameterDict({task: nn.Parameter(torch.zeros(2)) for task in tasks}))
        self.module = module
        module.forward = self.forward

    def forward(self, *args: Any, **kwargs: Any) -> Tensor:
        """The module's output on the route that is taken."""
        route = self.way.route
        own = self.kind == "specific" or self.place in route.own
        module = self.module.own[route.task] if own else self.module
        if self.narrow is not None and route.width != WHOLE:
            output = self.narrow(module, route.width, *args, **kwargs)
        else:
            output = module(*args, **kwargs) if own else self.plain(*args, **kwargs)
        return output * self._gate(route, own) if self.place in route.noise else output

    def _gate(self, route: Route, own: bool) -> Tensor:
        """Exactly 1, with the gradient of the chosen way's probability: the straight-through estimator of
        Gumbel-softmax (arXiv 1611.01144). The other way is not computed, so the logits do not hear of it in this step.
        """
        logits = self.module.logits[route.task]
        # The difference of two Gumbel variables is logistic, and a softmax of two is a sigmoid.
        soft = torch.sigmoid((logits[OWN] - logits[SHARED] + route.noise[self.place]) / route.temperature)
        chosen = soft if own else 1 - soft
        return 1 + (chosen - chosen.detach())

    def copies(self) -> list[nn.Parameter]:
        """The parameters of the tasks' copies."""
        return [] if self.kind == "shared" else list(self.module.own.parameters())

    def logits(self) -> list[nn.Parameter]:
        """The tasks' logits, each [2]."""
        return list(self.module.logits.parameters()) if self.kind == "learned" else []


@dataclass(frozen=True)
class Draw:
    """What chance decides in a step: a function of (seed, step), the same on every rank and in every micro-batch.

    Attributes:
        seed: of the run.
        step: from 1.
        temperature: of the step.
        width: that the step trains.
    """

    seed: int
    step: int
    temperature: float
    width: Width

    def noise(self, place: str, task: str) -> float:
        """The difference of two Gumbel variables, for a task at a place."""
        uniform = random.Random(f"route {self.seed} {self.step} {place} {task}").random()
        uniform = min(max(uniform, 1e-12), 1 - 1e-12)
        return math.log(uniform) - math.log1p(-uniform)


class Routing:
    """All parts of a trunk, and what its tasks choose.

    Args:
        parts: of the trunk, in order.
    """

    def __init__(self, parts: Sequence[Part]) -> None:
        self.parts = list(parts)
        self.learned = [part for part in self.parts if part.kind == "learned"]
        self.routed = any(part.kind != "shared" for part in self.parts)
        self._drawn: tuple[Draw, dict[str, dict[str, float]]] | None = None

    def margins(self) -> dict[str, dict[str, float]]:
        """By task and learned place, logit of its own copy minus logit of the shared one. One read from the device."""
        if not self.learned:
            return {}
        names = [(task, part.place) for part in self.learned for task in part.module.logits]
        logits = torch.stack([part.module.logits[task] for part in self.learned for task in part.module.logits])
        found: dict[str, dict[str, float]] = {}
        for (task, place), (shared, own) in zip(names, logits.detach().tolist(), strict=True):
            found.setdefault(task, {})[place] = own - shared
        return found

    def begin(self, draw: Draw) -> dict[str, dict[str, float]]:
        """Take over a step's draw. Returns the probability that each task takes its own copy, by task and place."""
        margins = self.margins()
        self._drawn = draw, margins
        return {task: {place: _sigmoid(margin) for place, margin in by.items()} for task, by in margins.items()}

    def training_route(self, task: str | None) -> Route:
        """A task's route in the step that is under way."""
        if self._drawn is None:
            assert not self.learned, "no draw yet: Trunk.begin_step comes before a step's first pass"
            return Route(task)
        draw, margins = self._drawn
        noise = {place: draw.noise(place, str(task)) for place in margins.get(str(task), {})}
        own = frozenset(place for place, value in noise.items() if margins[str(task)][place] + value > 0)
        return Route(task, own, noise, draw.temperature, draw.width)

    def settled_route(self, task: str | None, width: Width) -> Route:
        """A task's route in evaluation: the likelier way, the shared one where both are equal."""
        margins = self.margins().get(str(task), {})
        return Route(task, frozenset(place for place, margin in margins.items() if margin > 0), width=width)


def _sigmoid(value: float) -> float:
    return 1 / (1 + math.exp(-value)) if value >= 0 else 1 - _sigmoid(-value)
