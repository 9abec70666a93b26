"""Equalised focal loss (arXiv 2201.02593) for the library's set-prediction losses, whose targets know the IoU.

Rare classes have few positives against many negatives, and so lose. The paper counts both as gradients, and gives each
class j an exponent of its own, gamma_j = gamma + SCALE * (1 - ratio_j), and the factor gamma_j / gamma, which restores
what the larger exponent takes. D-FINE and RT-DETR v2 are trained with the varifocal loss (arXiv 2008.13367), where the
exponent focuses negatives alone, and a positive has its IoU for target and for weight. Here gamma_j stands wherever
that loss has gamma, and the factor before all of class j:

    factor_j * alpha * p^gamma_j * BCE(p, 0)    for a negative of score p
    factor_j * iou * BCE(p, iou)                for a positive

A class whose positives weigh as much as its negatives has the library's loss. The paper's own (|iou - p|^gamma_j before
positives too, as in quality focal loss) would put out the positives of rare classes as long as their boxes are bad.
"""

from __future__ import annotations

from types import FunctionType
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torchvision.ops import box_convert, box_iou

SCALE = 8.0
"""How much larger than that of a class in balance an exponent may be; the paper's."""


class GradientRatio(nn.Module):
    """Gradients at the logits of positives and negatives by class (K), summed over a run, alike on every rank.

    The sums are buffers: they go into checkpoints and weights.
    """

    def __init__(self, num_classes: int) -> None:
        super().__init__()
        self.register_buffer("sums", torch.zeros(2, num_classes, dtype=torch.float64))
        self._new: Tensor | None = None

    def exponents(self, gamma: float) -> Tensor:
        """gamma_j, float32 [K]; `gamma` itself for a class of which nothing has been seen."""
        positive, negative = self.sums
        ratio = torch.where(negative > 0, positive / negative.clamp(min=1e-30), 1.0).clamp(max=1.0)
        return (gamma + SCALE * (1 - ratio)).float()

    def note(self, gradients: Tensor, positive: Tensor) -> None:
        """Count absolute gradients [..., K] as those of positives, where the mask says so, and of negatives."""
        gradients = gradients.detach().double().nan_to_num(0.0, 0.0, 0.0).flatten(0, -2)
        positive = positive.flatten(0, -2)
        self._new = torch.stack([(gradients * positive).sum(0), (gradients * ~positive).sum(0)])

    def settle(self) -> None:
        """Add what was noted on all ranks; all of them must call it, whether they noted anything or not."""
        new = torch.zeros_like(self.sums) if self._new is None else self._new
        self._new = None
        if dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1:
            dist.all_reduce(new)
        self.sums += new


class _Equalised:
    """Before a library's loss: its varifocal part, equalised. The last decoder layer alone is counted."""

    def __init__(self, config: Any, ratio: GradientRatio) -> None:
        super().__init__(config)
        self.gradient_ratio = ratio

    def forward(self, outputs: dict[str, Any], targets: list[dict[str, Tensor]]) -> dict[str, Tensor]:
        self._counted = outputs["logits"]
        return super().forward(outputs, targets)

    def loss_labels_vfl(
        self,
        outputs: dict[str, Any],
        targets: list[dict[str, Tensor]],
        indices: list[tuple[Tensor, Tensor]],
        num_boxes: float,
        log: bool = True,
    ) -> dict[str, Tensor]:
        logits_BQK = outputs["logits"]
        quality, positive = self._targets(outputs, targets, indices)
        probability = logits_BQK.detach().sigmoid()
        gamma_K = self.gradient_ratio.exponents(self.gamma)
        weight = gamma_K / self.gamma * torch.where(positive, quality, self.alpha * probability.pow(gamma_K))
        if logits_BQK is self._counted:
            self.gradient_ratio.note(weight * (probability - quality).abs(), positive)
        loss = nn.functional.binary_cross_entropy_with_logits(logits_BQK, quality, weight, reduction="sum")
        return {"loss_vfl": loss / num_boxes}

    def _targets(
        self, outputs: dict[str, Any], targets: list[dict[str, Tensor]], indices: list[tuple[Tensor, Tensor]]
    ) -> tuple[Tensor, Tensor]:
        """IoU of each query with the box it is matched to, and whether it is; both [B, Q, K], at that box's class."""
        images, queries = self._get_source_permutation_idx(indices)
        labels = torch.cat([one["class_labels"][chosen] for one, (_, chosen) in zip(targets, indices, strict=True)])
        boxes = torch.cat([one["boxes"][chosen] for one, (_, chosen) in zip(targets, indices, strict=True)])
        pairs = (box_convert(one, "cxcywh", "xyxy") for one in (outputs["pred_boxes"][images, queries].detach(), boxes))
        quality = torch.zeros_like(outputs["logits"])
        positive = torch.zeros_like(quality, dtype=torch.bool)
        quality[images, queries, labels] = box_iou(*pairs).diagonal().to(quality.dtype)
        positive[images, queries, labels] = True
        return quality, positive


def equalise(model: nn.Module, ratio: GradientRatio) -> None:
    """Make the loss of a library's detection model an equalised one.

    The library makes its criterion inside a function, under the name of a global: here is that function with another
    criterion under that name.
    """
    from transformers.loss import loss_d_fine, loss_rt_detr

    module, name = (loss_d_fine, "DFine") if "DFine" in type(model).__name__ else (loss_rt_detr, "RTDetr")
    plain, criterion = getattr(module, f"{name}ForObjectDetectionLoss"), getattr(module, f"{name}Loss")
    assert f"{name}Loss" in plain.__code__.co_names, "the library makes its criterion in another way"
    kind = type("EqualisedLoss", (_Equalised, criterion), {})
    names = {**plain.__globals__, f"{name}Loss": lambda config: kind(config, ratio)}
    model.loss_function = FunctionType(plain.__code__, names, plain.__name__, plain.__defaults__)
