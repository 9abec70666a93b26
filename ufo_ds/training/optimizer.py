"""Optimizer groups (shared trunk, heads; layer decay; no decay on norms) and the learning-rate schedule."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from timm.optim import param_groups_layer_decay, param_groups_weight_decay
from timm.scheduler import CosineLRScheduler
from torch import nn

from ufo_ds.model.joint import JointModel
from ufo_ds.recipe import OptimizerConfig
from ufo_ds.surgery.task_gradients import SHARED


def parameter_groups(model: JointModel, config: OptimizerConfig) -> list[dict[str, Any]]:
    """Optimizer groups; those of the trunk's shared parameters carry `SHARED`: surgery sees them and nothing else.

    Each group has `lr_scale`: layer decay in the trunk (arXiv 2106.08254), of the tasks' own copies too, and
    `logits_lr_scale` of their logits; `head_lr_scale` in the heads.
    """
    vit = model.trunk.vit
    frozen = [name for name, parameter in vit.named_parameters() if not parameter.requires_grad]
    assert not frozen, f"the trunk has frozen parameters: {frozen}"
    skip = set(vit.no_weight_decay()) if hasattr(vit, "no_weight_decay") else set()
    layers = param_groups_layer_decay(
        vit, config.weight_decay, no_weight_decay_list=skip, layer_decay=config.layer_decay
    )
    logits, own = set(model.trunk.logits()), set(model.trunk.own_parameters())
    shared = _only(layers, lambda parameter: parameter not in own)
    copies = _only(layers, lambda parameter: parameter in own and parameter not in logits)
    choices = [
        {**group, "lr_scale": group["lr_scale"] * model.trunk.settings.logits_lr_scale}
        for group in _only(layers, lambda parameter: parameter in logits)
    ]
    heads = param_groups_weight_decay(model.heads, config.weight_decay)
    return (
        [{**group, SHARED: True} for group in _merge(shared)]
        + [{**group, SHARED: False} for group in _merge(copies + choices)]
        + [{**group, "lr_scale": config.head_lr_scale, SHARED: False} for group in heads if group["params"]]
    )


def _only(groups: list[dict[str, Any]], wanted: Callable[[nn.Parameter], bool]) -> list[dict[str, Any]]:
    """The groups with those of their parameters that are wanted; without groups that have none."""
    chosen = [{**group, "params": [one for one in group["params"] if wanted(one)]} for group in groups]
    return [group for group in chosen if group["params"]]


def _merge(groups: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Join groups of equal settings: each costs DeepSpeed a partition, with padding, of its own."""
    merged: dict[tuple[float, float], dict[str, Any]] = {}
    for group in groups:
        key = (group["weight_decay"], group["lr_scale"])
        whole = merged.setdefault(key, {"params": [], "weight_decay": key[0], "lr_scale": key[1]})
        whole["params"].extend(group["params"])
    return list(merged.values())


def make_optimizer(model: JointModel, config: OptimizerConfig, offload: bool = False) -> torch.optim.Optimizer:
    """AdamW (arXiv 1711.05101) over `parameter_groups`; `offload`: its states will be in host memory."""
    fused = offload or next(model.parameters()).is_cuda
    return torch.optim.AdamW(parameter_groups(model, config), lr=config.lr, betas=config.betas, fused=fused or None)


def make_schedule(optimizer: torch.optim.Optimizer, config: OptimizerConfig, steps: int) -> CosineLRScheduler:
    """Linear warm-up, then cosine to `min_lr_scale`; a pure function of the step. timm multiplies by `lr_scale`."""
    warmup = min(config.warmup_steps, steps // 2)
    return CosineLRScheduler(
        optimizer,
        t_initial=max(1, steps - warmup),
        lr_min=config.lr * config.min_lr_scale,
        warmup_t=warmup,
        warmup_lr_init=config.lr / max(1, warmup),
        warmup_prefix=True,
        t_in_epochs=False,
    )
