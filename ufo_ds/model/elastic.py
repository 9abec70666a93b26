"""Functions of the step: the size of the trunk that it trains, and the temperature of its routes."""

from __future__ import annotations

import random

from ufo_ds.recipe import ElasticConfig, Width


def drawn_width(config: ElasticConfig, seed: int, step: int) -> Width:
    """The size of a step, a function of (seed, step): the whole trunk in a share `full` of the steps, else each of
    depth, heads and hidden units drawn by itself from the recipe's lists (single-path sampling as in VIMER-UFO, arXiv
    2207.10341, with the whole trunk kept in training as in BigNAS, arXiv 2003.11142).
    """
    choices = {"depth": config.depth, "heads": config.heads, "mlp": config.mlp}
    draw = random.Random(f"width {seed} {step}")
    if not any(choices.values()) or draw.random() < config.full:
        return Width()
    return Width(**{name: draw.choice(values) for name, values in choices.items() if values})


def temperature(limits: tuple[float, float], step: int, steps: int) -> float:
    """From the first of `limits` in step 1 to the second in step `steps`, by equal factors."""
    first, last = limits
    done = min(1.0, (step - 1) / max(1, steps - 1))
    return first * (last / first) ** done


def taps(depths: int, blocks: int) -> list[int]:
    """The blocks after which the heads look, evenly spaced over the leading `blocks`, the last of them among them."""
    return [(i + 1) * blocks // depths - 1 for i in range(depths)]
