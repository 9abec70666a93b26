"""The one typed schema of a run. Every key of a recipe is a field here, with its unit; nothing here needs torch."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

from ufo_ds.recipe.classification import ClsConfig
from ufo_ds.recipe.data import DataConfig
from ufo_ds.recipe.detection import DetConfig
from ufo_ds.recipe.model import ModelConfig
from ufo_ds.recipe.prediction import ClsViews, DetViews, PredictionConfig, SegViews
from ufo_ds.recipe.segmentation import SegConfig
from ufo_ds.recipe.surgery import SurgeryConfig, SurgeryMethod
from ufo_ds.recipe.tracking import TrackingConfig
from ufo_ds.recipe.training import OptimizerConfig, TrainConfig
from ufo_ds.recipe.trunk import ElasticConfig, TaskBlocksConfig, TrunkConfig, Width

__all__ = [
    "ClsConfig",
    "ClsViews",
    "DataConfig",
    "DetConfig",
    "DetViews",
    "ElasticConfig",
    "ModelConfig",
    "OptimizerConfig",
    "PredictionConfig",
    "Recipe",
    "SegConfig",
    "SegViews",
    "SurgeryConfig",
    "SurgeryMethod",
    "TaskBlocksConfig",
    "TasksConfig",
    "TrackingConfig",
    "TrainConfig",
    "TrunkConfig",
    "Width",
]


@dataclass
class TasksConfig:
    """Which tasks are trained, and how."""

    names: list[Literal["cls", "det", "seg"]] | None = None
    """The tasks of the run; null: every task that has shards."""
    cls: ClsConfig = field(default_factory=ClsConfig)
    """Classification."""
    det: DetConfig = field(default_factory=DetConfig)
    """Detection."""
    seg: SegConfig = field(default_factory=SegConfig)
    """Segmentation."""


@dataclass
class Recipe:
    """A whole run."""

    seed: int = 0
    """Of initialisation, order, augmentation and surgery."""
    model: ModelConfig = field(default_factory=ModelConfig)
    """The shared trunk."""
    trunk: TrunkConfig = field(default_factory=TrunkConfig)
    """Where tasks part inside the trunk, and how much of it a step trains."""
    tasks: TasksConfig = field(default_factory=TasksConfig)
    """The tasks."""
    data: DataConfig = field(default_factory=DataConfig)
    """The samples."""
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    """AdamW and its schedule."""
    train: TrainConfig = field(default_factory=TrainConfig)
    """The loop."""
    surgery: SurgeryConfig = field(default_factory=SurgeryConfig)
    """Combination of the task gradients."""
    prediction: PredictionConfig = field(default_factory=PredictionConfig)
    """How the trained model is asked."""
    tracking: TrackingConfig = field(default_factory=TrackingConfig)
    """Weights & Biases."""
    deepspeed: str | dict[str, Any] = "ds_configs/zero2.json"
    """DeepSpeed JSON: a path (from the working folder or the project's root), or the settings themselves."""
