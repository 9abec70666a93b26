"""Classification: the picture above what it is and what it was taken for."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from ufo_ds.drawing import fit, strip

if TYPE_CHECKING:
    from torch import Tensor

    from ufo_ds.data.schema import TaskMeta
    from ufo_ds.tasks.classification.score import ClassPrediction


def picture(image: np.ndarray, truth: int | None, prediction: ClassPrediction, meta: TaskMeta) -> np.ndarray:
    """Draw a prediction, marked right or wrong where the truth is known.

    Args:
        image: RGB uint8 [H, W, 3].
        truth: class id, or None.
        prediction: of this image.
        meta: the classes.

    Returns:
        RGB uint8 [H', W', 3].
    """
    drawn, _ = fit(image)
    width = drawn.shape[1]
    said = f"predicted: {_name(prediction.label, meta)}"
    if math.isfinite(prediction.confidence):
        said += f"  {prediction.confidence:.2f}"
    if truth is None:
        return np.vstack([drawn, strip(width, said)])
    return np.vstack([drawn, strip(width, f"truth: {_name(truth, meta)}", indent=True),
                      strip(width, said, mark=int(prediction.label) == int(truth))])


def example_picture(image: np.ndarray, target: Tensor, meta: TaskMeta) -> np.ndarray:
    """A training image above its class, or above the shares of the classes that it was mixed of.

    Args:
        image: RGB uint8 [H, W, 3].
        target: a class index, or [K] shares.
        meta: the classes.

    Returns:
        RGB uint8 [H', W', 3].
    """
    drawn, _ = fit(image)
    if target.ndim == 0:
        return np.vstack([drawn, strip(drawn.shape[1], meta.class_names[int(target)])])
    shares = sorted(enumerate(target.tolist()), key=lambda item: -item[1])[:2]
    lines = [f"{share:.2f} {meta.class_names[index]}" for index, share in shares if share > 0]
    return np.vstack([drawn, *(strip(drawn.shape[1], line) for line in lines)])


def _name(class_id: int, meta: TaskMeta) -> str:
    return dict(zip(meta.class_ids, meta.class_names, strict=True)).get(int(class_id), f"class {class_id}")
