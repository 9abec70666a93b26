"""The joint model: one trunk, one head a task."""

from __future__ import annotations

import functools
import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from ufo_ds.data.batch import Batch
from ufo_ds.data.views import ViewBatch
from ufo_ds.model.trunk import Trunk


class JointModel(nn.Module):
    """A trunk that all tasks share, and the heads it is handed.

    Trunk, head and loss run inside one `forward`, because only what runs inside the engine's call is under DeepSpeed's
    autocast.
    """

    def __init__(self, trunk: Trunk, heads: Mapping[str, nn.Module]) -> None:
        super().__init__()
        self.trunk = trunk
        self.heads = nn.ModuleDict(heads)
        trunk.multiple = math.lcm(trunk.multiple, *(int(getattr(head, "multiple", 1)) for head in heads.values()))

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        """The losses of a batch of one task: `loss`, and its parts by name."""
        return self.heads[batch.task].loss(self.trunk(batch.images, batch.task), batch)

    @torch.inference_mode()
    def raw(self, task: str, images: Tensor) -> dict[str, Tensor]:
        """A task's network outputs for uint8 images [B, 3, H, W]."""
        return self.heads[task].raw(self.trunk(images, task))

    @torch.inference_mode()
    def predict(self, batch: Batch) -> list[Any]:
        """One prediction for each sample, in the coordinates of its original image."""
        return self.heads[batch.task].predict(self.trunk(batch.images, batch.task), batch)

    @torch.inference_mode()
    def predict_views(self, views: ViewBatch, config: Any) -> list[Any]:
        """One prediction for each sample from several views of it.

        Args:
            views: of one task, on the model's device.
            config: that task's section of `prediction`, by which they were made.
        """
        trunk = functools.partial(self.trunk, task=views.task)
        return self.heads[views.task].predict_views(trunk, views, config)
