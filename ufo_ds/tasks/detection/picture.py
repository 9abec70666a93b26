"""Detection: the labelled boxes beside the predicted ones."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from ufo_ds.drawing import beside, box_colours, boxes, fit, titled

if TYPE_CHECKING:
    from ufo_ds.data.schema import TaskMeta
    from ufo_ds.tasks.detection.examples import Target
    from ufo_ds.tasks.detection.score import Boxes, BoxTruth

SHOWN_SCORE = 0.3
"""Boxes from this score on are drawn."""
FEW = 3
"""Where no box reaches it, the so many best are drawn, to show what the network leans to."""
MOST = 40
"""No more boxes than this are drawn."""
CROWD_COLOUR = (160, 160, 160)


def picture(image: np.ndarray, truth: BoxTruth | None, prediction: Boxes, meta: TaskMeta) -> np.ndarray:
    """Draw labelled boxes left (crowds in grey) and predicted ones right, in the colours of their classes.

    Args:
        image: RGB uint8 [H, W, 3].
        truth: of this image, or None: then the prediction stands alone.
        prediction: of this image.
        meta: the classes.

    Returns:
        RGB uint8 [H', W', 3].
    """
    small, factor = fit(image)
    right = _draw_prediction(small, factor, prediction, meta)
    scores = np.asarray(prediction.scores, np.float64)
    title = f"predicted, score >= {SHOWN_SCORE:g}"
    if len(scores) and not (scores >= SHOWN_SCORE).any():
        title = f"predicted, none >= {SHOWN_SCORE:g}: best {min(FEW, len(scores))}"
    if truth is None:
        return titled(right, title)
    names, colours = _look(truth.category_ids, meta)
    colours = np.where(np.asarray(truth.is_crowd, bool)[:, None], CROWD_COLOUR, colours)
    left = boxes(small, np.asarray(truth.boxes) * factor, names, colours=colours)
    return beside(left, right, ("truth", title))


def example_picture(image: np.ndarray, target: Target, meta: TaskMeta) -> np.ndarray:
    """A training image with the boxes that are to be found.

    Args:
        image: RGB uint8 [H, W, 3], the whole canvas.
        target: its boxes, cxcywh, 0..1 of the canvas.
        meta: the classes.

    Returns:
        RGB uint8 [H', W', 3].
    """
    small, _ = fit(image)
    cxcywh = target["boxes"].double().numpy()
    xyxy = np.concatenate([cxcywh[:, :2] - cxcywh[:, 2:] / 2, cxcywh[:, :2] + cxcywh[:, 2:] / 2], axis=1)
    ids = np.asarray(meta.class_ids)[target["class_labels"].numpy()]
    names, colours = _look(ids, meta)
    return boxes(small, xyxy * ([small.shape[1], small.shape[0]] * 2), names, colours=colours)


def _draw_prediction(image: np.ndarray, factor: float, prediction: Boxes, meta: TaskMeta) -> np.ndarray:
    scores = np.asarray(prediction.scores, np.float64)
    order = np.argsort(-scores, kind="stable")[:MOST]
    kept = order[scores[order] >= SHOWN_SCORE]
    if not len(kept):
        kept = order[:FEW]
    names, colours = _look(np.asarray(prediction.category_ids)[kept], meta)
    return boxes(image, np.asarray(prediction.boxes)[kept] * factor, names, scores[kept], colours)


def _look(category_ids: np.ndarray, meta: TaskMeta) -> tuple[list[str], np.ndarray]:
    """Names and colours uint8 [N, 3] of categories; one that is none of the data set's is named by its id."""
    index = {class_id: i for i, class_id in enumerate(meta.class_ids)}
    ids = np.asarray(category_ids, np.int64).tolist()
    names = [meta.class_names[index[i]] if i in index else f"category {i}" for i in ids]
    table = box_colours(len(index) + 1)
    return names, table[[index.get(i, len(index)) for i in ids]].reshape(-1, 3)
