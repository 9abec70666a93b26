"""Training without strong augmentation, as the last part of a run may have it (`train.close_augment`)."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, TypeVar

from ufo_ds.recipe.classification import ClsConfig
from ufo_ds.recipe.detection import DetConfig
from ufo_ds.recipe.segmentation import SegConfig
from ufo_ds.recipe.training import TrainConfig

STRONG: dict[type, dict[str, Any]] = {
    ClsConfig: {"auto_augment": None, "random_erasing": 0.0, "mixup": 0.0, "cutmix": 0.0},
    DetConfig: {"mosaic": 0.0, "copy_paste": 0.0},
    SegConfig: {"rare_crops": 0.0},
}
"""For each task's config its strong keys with the values that switch them off."""
_Config = TypeVar("_Config")


def plain(config: _Config) -> _Config:
    """A copy of a task's config with its strong augmentation off; crops, mirroring and jitter stay."""
    return replace(config, **STRONG.get(type(config), {}))  # type: ignore[type-var]


def closing_step(train: TrainConfig) -> int:
    """How many steps a run has strong augmentation for; those after them close it. `train.steps` must be known."""
    return train.steps - round(train.steps * train.close_augment)
