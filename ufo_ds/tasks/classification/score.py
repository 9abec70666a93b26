"""Classification: predictions, Top-1, and the section `cls` of a submission."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ufo_ds.errors import UserError
from ufo_ds.files import read_text
from ufo_ds.submission import read_labels

if TYPE_CHECKING:
    from ufo_ds.data.schema import RawSample, TaskMeta


@dataclass
class ClassPrediction:
    """The class of one image.

    Attributes:
        file_name: of the image, as in the raw download.
        label: class id (not the network's index).
        confidence: probability of `label`, 0..1; NaN where unknown (a submission holds none).
    """

    file_name: str
    label: int
    confidence: float = math.nan


class AccuracyMetric:
    """Top-1: the share of the images counted whose label is right. A `Metric`."""

    def __init__(self) -> None:
        self.correct: Counter[int] = Counter()
        self.total: Counter[int] = Counter()

    def update(self, predictions: Sequence[ClassPrediction], truths: Sequence[int]) -> None:
        """Count these images; truths are class ids."""
        for prediction, truth in zip(predictions, truths, strict=True):
            self.total[int(truth)] += 1
            self.correct[int(truth)] += int(prediction.label) == int(truth)

    def state(self) -> tuple[Counter[int], Counter[int]]:
        """Right images and all images by true class id."""
        return self.correct, self.total

    def merge(self, states: Sequence[tuple[Counter[int], Counter[int]]]) -> None:
        """Become the sum of `states`."""
        self.correct = sum((correct for correct, _ in states), Counter())
        self.total = sum((total for _, total in states), Counter())

    def compute(self) -> dict[str, float]:
        """`top1` in 0..1; 0 where nothing was counted."""
        return {"top1": self.correct.total() / max(self.total.total(), 1)}

    def per_class(self) -> dict[int, float]:
        """Share of right images by true class id, for the classes that occur."""
        return {label: self.correct[label] / count for label, count in sorted(self.total.items())}


def truth_of(raw: RawSample, meta: TaskMeta) -> int:
    """The class id in a sample. `UserError` where it has none, or one that is no class of the data set."""
    if "cls" not in raw.members:
        raise UserError(f"{raw.file_name}: has no label; score a labelled split")
    label = _parse_label(raw.members["cls"].decode("ascii", "replace"), raw.file_name)
    if label not in meta.class_ids:
        raise UserError(f"{raw.file_name}: label {label} is none of the {meta.num_classes} class ids; "
                        "score a split with the same classes")
    return label


def write_section(predictions: Sequence[ClassPrediction], as_objects: bool = False) -> Any:
    """Predictions -> the section `cls`, by file name: single-key objects, or one object."""
    in_order = sorted(predictions, key=lambda item: item.file_name)
    labels = {item.file_name: int(item.label) for item in in_order}
    return labels if as_objects else [{name: label} for name, label in labels.items()]


def read_section(value: Any, path: Path) -> dict[str, ClassPrediction]:
    """The section `cls`, either form -> predictions by file name. `UserError` names `path` and the entry."""
    return {name: ClassPrediction(name, label) for name, label in read_labels(value, path).items()}


def read_truth(path: Path, meta: TaskMeta | None = None) -> Mapping[str, int]:
    """Lines `00001.jpg 0` -> class ids by file name.

    Args:
        path: text file; empty lines are skipped, a file name may hold blanks.
        meta: not needed here, as a label that is no class can only be missed.

    Raises:
        UserError: unreadable, a line of another form, an image twice with different labels, no line.
    """
    try:
        lines = read_text(path, "utf-8-sig").splitlines()
    except (OSError, ValueError) as error:
        raise UserError(f"{path}: cannot be read ({error}); give a text file, lines '00001.jpg 0'") from None
    truths: dict[str, int] = {}
    for number, line in enumerate(lines, start=1):
        if not (words := line.rsplit(None, 1)):
            continue
        place = f"{path}: line {number}"
        if len(words) != 2:
            raise UserError(f"{place}: {line.strip()!r:.60} is not '<file name> <class id>'; mend the line")
        name, label = words[0].strip(), _parse_label(words[1], place)
        if truths.setdefault(name, label) != label:
            raise UserError(f"{place}: {name!r} has stood before with class {truths[name]}; keep one of them")
    if not truths:
        raise UserError(f"{path}: holds no label; give a text file, lines '00001.jpg 0'")
    return truths


def _parse_label(text: str, where: str) -> int:
    if text.isascii() and text.strip().isdigit() and len(text) < 19:
        return int(text)
    raise UserError(f"{where}: {text!r:.40} is no class id; write an integer of at least 0")
