"""Ranges of a recipe's keys, which their types cannot say."""

from __future__ import annotations

import dataclasses
import itertools
import math
import re
from typing import Any

from ufo_ds.errors import UserError, shown
from ufo_ds.recipe import (
    ClsConfig,
    DetConfig,
    ElasticConfig,
    PredictionConfig,
    Recipe,
    SegConfig,
    SurgeryConfig,
    TrunkConfig,
)

MIN_SIDE, MAX_SIDE = 16, 2**14
"""Pixels of a side of the network's input; channels of a pyramid at most."""
MAX_PASTED = 100
"""Each costs the decoding of a picture."""
MAX_SCALES = 16
"""Views of a picture at different sizes."""
MAX_NUMBER = 2**53
"""Beyond it a float no longer counts in ones."""


def check_recipe(recipe: Recipe) -> None:
    """Ranges that types cannot say. Raises `UserError` with the key, the value and what it may be."""
    _check_numbers(dataclasses.asdict(recipe))
    tasks, train, optimizer = recipe.tasks, recipe.train, recipe.optimizer
    _require("seed", recipe.seed, recipe.seed >= 0, "0 or more")
    _require("train.steps", train.steps, train.steps is None or train.steps > 0, "at least 1, or null")
    _require("train.epochs", train.epochs, train.epochs > 0, "above 0")
    _require("train.accumulate", train.accumulate, train.accumulate > 0, "at least 1")
    _require("train.close_augment", train.close_augment, 0 <= train.close_augment <= 1, "in 0..1")
    _require("train.clip", train.clip, train.clip >= 0, "0 (off) or more")
    _require("train.keep_checkpoints", train.keep_checkpoints, train.keep_checkpoints > 0, "at least 1")
    _require("train.ema", train.ema, 0 <= train.ema < 1, "in [0, 1)")
    _require("train.max_skipped", train.max_skipped, train.max_skipped > 0, "at least 1")
    for key in ("eval_every", "checkpoint_every", "gallery"):
        _require(f"train.{key}", getattr(train, key), getattr(train, key) >= 0, "0 or more")
    for key in ("eval_images", "threads"):
        value = getattr(train, key)
        _require(f"train.{key}", value, value is None or value > 0, "at least 1, or null")
    _require("data.workers", recipe.data.workers, recipe.data.workers >= 0, "0 or more")
    _require("data.window", recipe.data.window, recipe.data.window > 0, "at least 1")
    _require("data.cache_gib", recipe.data.cache_gib, 0 < recipe.data.cache_gib <= 2**33, "above 0, GiB")
    _require("data.cache", recipe.data.cache, recipe.data.cache != "", "a folder, or null for the user's cache folder")
    _require("optimizer.lr", optimizer.lr, optimizer.lr > 0, "above 0")
    _require("optimizer.layer_decay", optimizer.layer_decay, 0 < optimizer.layer_decay <= 1, "in (0, 1]")
    betas = optimizer.betas
    _require("optimizer.betas", betas, all(0 <= beta < 1 for beta in betas), "two rates in [0, 1)")
    _require("optimizer.head_lr_scale", optimizer.head_lr_scale, optimizer.head_lr_scale >= 0, "0 or more")
    _require("optimizer.min_lr_scale", optimizer.min_lr_scale, 0 <= optimizer.min_lr_scale <= 1, "in 0..1")
    _require("optimizer.warmup_steps", optimizer.warmup_steps, optimizer.warmup_steps >= 0, "0 or more")
    _require("optimizer.weight_decay", optimizer.weight_decay, optimizer.weight_decay >= 0, "0 or more")
    _require("model.depths", recipe.model.depths, recipe.model.depths > 0, "at least 1")
    _require("model.drop_path", recipe.model.drop_path, 0 <= recipe.model.drop_path < 1, "in [0, 1)")
    if tasks.names is not None:
        unique = len(set(tasks.names)) == len(tasks.names) > 0
        _require("tasks.names", tasks.names, unique, "one or more of cls, det, seg, each once; null for all")
    _check_surgery(recipe.surgery)
    _check_trunk(recipe.trunk, recipe.model.depths)
    _check_prediction(recipe.prediction)
    for name in ("cls", "det", "seg"):
        _check_task(f"tasks.{name}", getattr(tasks, name))
    levels = tasks.det.levels
    doubling = len(levels) > 0 and all(b == 2 * a for a, b in itertools.pairwise(levels))
    _require(
        "tasks.det.levels",
        levels,
        doubling and set(levels) <= {4, 8, 16, 32, 64},
        "strides from 4 to 64, each twice the one before",
    )
    _check_cls(tasks.cls)
    _check_detection(tasks.det)
    _check_seg(tasks.seg)


def _check_numbers(values: Any, key: str = "") -> None:
    """No number that no key can mean; seeds and the settings handed on to DeepSpeed aside."""
    if isinstance(values, dict):
        for name, value in values.items():
            if key or name not in ("seed", "deepspeed"):
                _check_numbers(value, f"{key}.{name}" if key else str(name))
    elif isinstance(values, list | tuple):
        for value in values:
            _check_numbers(value, key)
    elif isinstance(values, float):
        _require(key, values, math.isfinite(values), "a finite number")
    elif isinstance(values, int):
        _require(key, values, abs(values) <= MAX_NUMBER, f"at most {MAX_NUMBER}")


def _check_surgery(config: SurgeryConfig) -> None:
    _require("surgery.every", config.every, config.every >= 0, "0 or more")
    _require("surgery.gradvac_beta", config.gradvac_beta, 0 <= config.gradvac_beta <= 1, "in 0..1")
    for name in ("cagrad_c", "task_clip", "tbgc_clip"):
        _require(f"surgery.{name}", getattr(config, name), getattr(config, name) >= 0, "0 or more")
    for name in ("uncertainty_lr", "famo_lr"):
        _require(f"surgery.{name}", getattr(config, name), getattr(config, name) > 0, "above 0")


def _check_detection(config: DetConfig) -> None:
    _require("tasks.det.nms", config.nms, config.nms is None or 0 < config.nms <= 1, "in (0, 1], or null")
    for name in ("crop_to_box", "mosaic", "copy_paste"):
        value = getattr(config, name)
        _require(f"tasks.det.{name}", value, 0 <= value <= 1, "in 0..1")
    most = config.copy_paste_max
    _require("tasks.det.copy_paste_max", most, 1 <= most <= MAX_PASTED, f"1 to {MAX_PASTED} objects")


def _check_trunk(config: TrunkConfig, depths: int) -> None:
    blocks = config.task_blocks.blocks
    if isinstance(blocks, str):
        known = blocks in ("none", "all") or re.fullmatch(r"(last|every):[1-9][0-9]{0,3}", blocks) is not None
    else:
        known = len(set(blocks)) == len(blocks) and all(block >= 0 for block in blocks)
    _require("trunk.task_blocks.blocks", blocks, known, "none, all, last:N, every:N, or different numbers from 0")
    _require("trunk.temperature", config.temperature, min(config.temperature) > 0, "two numbers above 0")
    _require("trunk.logits_lr_scale", config.logits_lr_scale, config.logits_lr_scale >= 0, "0 or more")
    _require("trunk.multiple", config.multiple, 0 < config.multiple <= MAX_SIDE, f"1 to {MAX_SIDE} pixels")
    elastic = config.elastic
    _require("trunk.elastic.full", elastic.full, 0 < elastic.full <= 1, "in (0, 1]")
    _check_sizes("trunk.elastic", elastic, depths)
    _check_sizes("trunk.sliced", config.sliced.as_choices(), depths)


def _check_sizes(key: str, sizes: ElasticConfig, depths: int) -> None:
    remedy = f"at least {depths}, as many blocks as heads see depths of (model.depths)"
    _require(f"{key}.depth", sizes.depth, all(value >= depths for value in sizes.depth), remedy)
    _require(f"{key}.heads", sizes.heads, all(value > 0 for value in sizes.heads), "at least 1")
    _require(f"{key}.mlp", sizes.mlp, all(0 < value <= 1 for value in sizes.mlp),
             "in (0, 1], a share of the hidden units")


def _check_prediction(config: PredictionConfig) -> None:
    for name in ("cls", "det", "seg"):
        key, views = f"prediction.{name}", getattr(config, name)
        scales, overlap = views.scales, getattr(views, "overlap", 0)
        _require(f"{key}.scales", scales, 0 < len(scales) <= MAX_SCALES and all(0.1 <= scale <= 8 for scale in scales),
                 f"1 to {MAX_SCALES} factors of 0.1 to 8")
        _require(f"{key}.overlap", overlap, 0 <= overlap <= 0.75, "in 0..0.75")
    tiles, iou, window = config.det.tiles, config.det.iou, config.seg.window
    _require("prediction.det.tiles", tiles, tiles is None or MIN_SIDE <= tiles <= MAX_SIDE,
             f"{MIN_SIDE} to {MAX_SIDE} pixels, or null")
    _require("prediction.det.iou", iou, 0 < iou <= 1, "in (0, 1]")
    _require("prediction.seg.window", window, window is None or MIN_SIDE <= min(window) <= max(window) <= MAX_SIDE,
             f"(height, width) of {MIN_SIDE} to {MAX_SIDE} pixels, or null")


def _check_task(key: str, config: Any) -> None:
    _require(f"{key}.batch", config.batch, config.batch > 0, "at least 1")
    _require(f"{key}.weight", config.weight, config.weight > 0, "above 0; leave a task out through tasks.names")
    for name in ("size", "crop", "eval_size"):
        value = getattr(config, name, None)
        _require(f"{key}.{name}", value, value is None or MIN_SIDE <= min(value) <= max(value) <= MAX_SIDE,
                 f"(height, width) of {MIN_SIDE} to {MAX_SIDE} pixels")
    for name in ("scale_jitter", "crop_scale"):
        value = getattr(config, name, None)
        _require(f"{key}.{name}", value, value is None or 0 < value[0] <= value[1], "(low, high) with 0 < low <= high")
    for name in ("aux_weight", "min_box"):
        value = getattr(config, name, 0)
        _require(f"{key}.{name}", value, value >= 0, "0 or more")
    width = getattr(config, "width", 1)
    _require(f"{key}.width", width, 0 < width <= MAX_SIDE, f"1 to {MAX_SIDE} channels")
    for name in ("hflip", "color_jitter", "jitter_prob", "min_visible", "dropout"):
        value = getattr(config, name, 0)
        _require(f"{key}.{name}", value, 0 <= value <= 1, "in 0..1")
    hue = getattr(config, "hue_jitter", None)
    _require(f"{key}.hue_jitter", hue, hue is None or 0 <= hue <= 0.5, "in 0..0.5, or null")


def _check_cls(config: ClsConfig) -> None:
    smoothing, magnitude = config.label_smoothing, config.auto_augment_magnitude
    _require("tasks.cls.label_smoothing", smoothing, 0 <= smoothing < 1, "in [0, 1)")
    _require("tasks.cls.auto_augment_magnitude", magnitude, 0 <= magnitude <= 30, "in 0..30")
    for name in ("random_erasing", "mix_prob", "mix_switch_prob"):
        _require(f"tasks.cls.{name}", getattr(config, name), 0 <= getattr(config, name) <= 1, "in 0..1")
    for name in ("mixup", "cutmix"):
        value = getattr(config, name)
        _require(f"tasks.cls.{name}", value, 0 <= value <= 100, "0 (off) to 100")
        _require(f"tasks.cls.{name}", value, value == 0 or config.batch > 1,
                 "0 with tasks.cls.batch 1: a picture is mixed with another of its micro-batch")


def _check_seg(config: SegConfig) -> None:
    _require("tasks.seg.rare_crops", config.rare_crops, 0 <= config.rare_crops <= 1, "in 0..1")
    _require("tasks.seg.cat_max_ratio", config.cat_max_ratio, 0 < config.cat_max_ratio <= 1, "in (0, 1]; 1 is off")


def _require(key: str, value: Any, holds: bool, remedy: str) -> None:
    if not holds:
        raise UserError(f"key '{key}' is {value if isinstance(value, float) else shown(value, 80)}: must be {remedy}")
