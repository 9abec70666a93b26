"""Segmentation: the labelled mask beside the predicted one. The report has the legend."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from ufo_ds.drawing import beside, fit, fit_mask, mask_colours, overlay_mask, titled

if TYPE_CHECKING:
    from torch import Tensor

    from ufo_ds.data.schema import TaskMeta
    from ufo_ds.tasks.segmentation.score import Masks


def picture(image: np.ndarray, truth: np.ndarray | None, prediction: Masks, meta: TaskMeta) -> np.ndarray:
    """Lay the labelled mask over the picture, left, and the predicted one, right.

    Args:
        image: RGB uint8 [H, W, 3].
        truth: uint8 [H, W] of class ids, 255 ignored, or None: then the prediction stands alone.
        prediction: of this image.
        meta: the classes.

    Returns:
        RGB uint8 [H', W', 3].
    """
    small, _ = fit(image)
    colours = mask_colours(meta.num_classes)
    right = overlay_mask(small, fit_mask(prediction.raster(image.shape[:2]), small.shape), colours)
    if truth is None:
        return titled(right, "predicted")
    left = overlay_mask(small, fit_mask(truth, small.shape), colours)
    return beside(left, right, ("truth", "predicted"))


def example_picture(image: np.ndarray, target: Tensor, meta: TaskMeta) -> np.ndarray:
    """A training image, and below it the same under its mask.

    Args:
        image: RGB uint8 [H, W, 3].
        target: uint8 [H, W] of class ids, 255 ignored.
        meta: the classes.

    Returns:
        RGB uint8 [H', W', 3].
    """
    small, _ = fit(image)
    masked = overlay_mask(small, fit_mask(target.numpy(), small.shape), mask_colours(meta.num_classes))
    return np.vstack([small, masked])
