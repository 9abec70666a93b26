"""The queries of a set-prediction decoder: which belong together, and when their choice hangs by a thread."""

from __future__ import annotations

import numpy as np
from scipy.optimize import linear_sum_assignment
from torch import Tensor

from ufo_ds.model.joint import JointModel

TIE = 1e-5
"""Two scores nearer than this share of the range of scores may change places by rounding."""


def matched(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """For rows [Q, D] of `first` their partners among those of `second`, one to one: indices [Q].

    The sum of the largest differences of the pairs is the smallest possible.
    """
    cost = np.stack([np.abs(row - second).max(1) for row in first])
    return linear_sum_assignment(cost)[1]


def is_tie(model: JointModel, task: str, image: Tensor) -> bool:
    """Whether a detection decoder's choice of queries for an image [1, 3, H, W] could be another by rounding.

    Both decoders score all positions by `enc_score_head` and take the best `num_queries`.
    """
    if task != "det":
        return False
    head, seen = model.heads[task], []
    hook = head.decoder.model.enc_score_head.register_forward_hook(lambda _module, _inputs, scores: seen.append(scores))
    try:
        model.raw(task, image)
    finally:
        hook.remove()
    scores = seen[0][0].amax(-1).sort(descending=True).values
    if len(scores) <= head.queries:
        return False
    gap = scores[head.queries - 1] - scores[head.queries]
    return bool(gap <= TIE * (scores[0] - scores[-1]))
