"""A submission and the ground truth -> the challenge's figures, by the same metrics as in training."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ufo_ds.errors import UserError, listed
from ufo_ds.strict_json import parse_json, read_json_bytes
from ufo_ds.submission import checked_sections
from ufo_ds.submission_pieces import DoubtError, take_apart
from ufo_ds.tasks.classification import score as classification
from ufo_ds.tasks.detection import score as detection
from ufo_ds.tasks.segmentation import score as segmentation
from ufo_ds.workers import Workers

SECTIONS = {"cls": "cls", "det": "dec", "seg": "seg"}
"""Section of the submission by task."""
SCORE_KEYS = {"cls": "top1", "det": "mAP50", "seg": "mIoU"}
"""The figure of each task that enters the average."""
FIGURES = ("top1", "top1_all", "mAP50", "mAP", "mIoU", "mIoU_present")
"""Every figure that there may be, in 0..1."""
TRACK1_SEG_CLASSES = 19

_BYTES_A_WORKER = 2**21
"""A submission of that size is scored in the time that a process takes to start."""
_MASKS_A_JOB = 8

_LISTED = 5


@dataclass
class TaskScore:
    """The score of one task.

    Attributes:
        figures: by name, in 0..1.
        counts: `images` of the ground truth, `submitted` images, `scored` ones, `missing` ones (for det: only
            those with boxes to find), `unknown` ones (in the submission only).
        warnings: what the reader has to know, a line each.
        per_class: the task's figure by class id.
        class_names: by class id, where the ground truth has them.
    """

    figures: dict[str, float] = field(default_factory=dict)
    counts: dict[str, int] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)
    per_class: dict[int, float] = field(default_factory=dict)
    class_names: Mapping[int, str] = field(default_factory=dict)


@dataclass
class Scores:
    """The scores of a submission, by task; only the tasks whose ground truth was given."""

    tasks: dict[str, TaskScore]

    @property
    def average(self) -> float:
        """Mean of Top-1, mAP50 and mIoU over the tasks scored."""
        return sum(score.figures[SCORE_KEYS[name]] for name, score in self.tasks.items()) / len(self.tasks)

    def as_json(self) -> dict[str, Any]:
        """Flat figures (None where not scored), `average`, the tasks in it; counts and warnings by task."""
        figures = {key: value for score in self.tasks.values() for key, value in score.figures.items()}
        return {
            **{key: figures.get(key) for key in FIGURES},
            "average": self.average,
            "tasks": list(self.tasks),
            "counts": {name: score.counts for name, score in self.tasks.items()},
            "warnings": {name: score.warnings for name, score in self.tasks.items()},
        }


def score_submission(path: Path, truths: Mapping[str, Path], seg_classes: int = TRACK1_SEG_CLASSES,
                     workers: int = 1) -> Scores:
    """Score the tasks whose ground truth is given.

    Args:
        path: the submission.
        truths: by task (`cls`, `det`, `seg`): the list of labels, the COCO file, the folder of masks.
        seg_classes: how many classes the masks declare; their mean is over all of them.
        workers: processes at most; a small submission takes fewer. The figures do not depend on it.

    Returns:
        A task that the submission lacks scores 0, since the challenge takes all three.

    Raises:
        UserError: an unreadable file, a broken entry, a section of which no image is in the ground truth, or a process
            that was killed.
    """
    path = Path(path)
    truths = {name: Path(truths[name]) for name in SECTIONS if name in truths}
    data = read_json_bytes(path)
    with Workers(min(workers, len(data) // _BYTES_A_WORKER) if "seg" in truths else 1) as pool:
        with contextlib.suppress(DoubtError):
            return _score(_read_pieces(data, path, truths), path, truths, seg_classes, pool)
        return _score(_read_whole(data, path, truths), path, truths, seg_classes, pool)


def _read_pieces(data: bytes, path: Path, tasks: Collection[str]) -> dict[str, Mapping[Any, Any]]:
    """Predictions by image, for each section of `tasks`, masks not yet parsed. `DoubtError` about anything unusual."""
    readers: dict[str, Callable[[Any], Mapping[Any, Any]]] = {
        "cls": lambda text: classification.read_section(parse_json(text, path), path),
        "dec": detection.read_entries,
        "seg": segmentation.read_texts,
    }
    sections = checked_sections(take_apart(data), path)
    scored = {SECTIONS[name] for name in tasks}
    if sections.keys() - scored:
        parse_json(data, path)  # what is not scored must be sound JSON all the same
    return {name: readers[name](value) for name, value in sections.items() if name in scored}


def _read_whole(data: bytes, path: Path, tasks: Collection[str]) -> dict[str, Mapping[Any, Any]]:
    """The same, parsed as a whole and checked; `UserError` says what is wrong and where."""
    readers = {"cls": classification.read_section, "det": detection.read_section, "seg": segmentation.read_section}
    sections = checked_sections(parse_json(data, path), path)
    return {SECTIONS[name]: readers[name](sections[SECTIONS[name]], path)
            for name in tasks if SECTIONS[name] in sections}


def _score(sections: Mapping[str, Mapping[Any, Any]], source: Path, truths: Mapping[str, Path], seg_classes: int,
           pool: Workers) -> Scores:
    found = {name: sections.get(SECTIONS[name], {}) for name in truths}
    # First of all, so that other processes count pixels while this one matches boxes.
    finish_seg = _begin_seg(found["seg"], source, truths["seg"], seg_classes, pool) if "seg" in truths else None
    scores: dict[str, TaskScore] = {}
    if "cls" in truths:
        scores["cls"] = _score_cls(found["cls"], source, truths["cls"])
    if "det" in truths:
        scores["det"] = _score_det(found["det"], source, truths["det"])
    if finish_seg:
        scores["seg"] = finish_seg()
    for name in (name for name in scores if not found[name]):
        absent = "is empty" if SECTIONS[name] in sections else "is absent"
        scores[name].warnings[:] = [f"section '{SECTIONS[name]}' {absent}: the task scores 0"]
    return Scores(scores)


def _score_cls(predictions: Mapping[str, classification.ClassPrediction], source: Path, truth_path: Path) -> TaskScore:
    """Top-1 over the known images that were submitted (as the official code counts), and over all."""
    truths = classification.read_truth(truth_path)
    score, known = _match(predictions, truths, source, truth_path, "cls")
    metric = classification.AccuracyMetric()
    metric.update([predictions[name] for name in known], [truths[name] for name in known])
    score.figures = metric.compute()
    score.figures["top1_all"] = score.figures["top1"] * len(known) / len(truths)
    score.per_class = metric.per_class()
    _warn_missing(score, "left out of top1, as in the official score; top1_all counts them as wrong")
    return score


def _score_det(predictions: Mapping[int, detection.SubmittedBoxes], source: Path, truth_path: Path) -> TaskScore:
    """COCO's mAP over all images of the ground truth; one without an entry has no box."""
    truths, names = detection.read_coco(truth_path)
    score, _ = _match(predictions, truths, source, truth_path, "dec")
    metric = detection.BoxMetric()
    metric.update([predictions.get(key) or detection.no_boxes(key) for key in truths], list(truths.values()))
    score.figures, score.per_class, score.class_names = metric.compute(), metric.per_class(), names
    score.counts["scored"] = len(truths)
    # An image without a sign rightly has no entry: only those that should have one are missing.
    with_boxes = [key for key, truth in truths.items() if not truth.is_crowd.all()]
    score.counts["missing"] = sum(key not in predictions for key in with_boxes)
    _warn_missing(score, "they hold boxes, and all of these count as not found")
    _warn_categories(score, predictions.values(), names)
    return score


def _begin_seg(predictions: Mapping[str, Any], source: Path, truth_path: Path, num_classes: int, pool: Workers,
               ) -> Callable[[], TaskScore]:
    """Mean IoU over the known images that were submitted; the counting begins, what is returned waits for it."""
    truths = segmentation.read_truth(truth_path)
    score, known = _match(predictions, truths, source, truth_path, "seg")
    pairs = [(predictions[stem], truths.paths[stem]) for stem in known]
    pairs += [(item, None) for stem, item in predictions.items() if stem not in truths]
    jobs = [(num_classes, pairs[first : first + _MASKS_A_JOB]) for first in range(0, len(pairs), _MASKS_A_JOB)]
    states = pool.map(segmentation.count_pixels, jobs)

    def finish() -> TaskScore:
        metric = segmentation.MaskMetric(num_classes)
        metric.merge(list(states))
        score.figures, score.per_class = metric.compute(), metric.per_class()
        odd = [item.file_name for item in predictions.values() if not item.file_name.endswith(".png")]
        if odd:
            score.warnings.append(f"{len(odd)} names do not end in .png as they should: {_some(odd)}")
        _warn_missing(score, "left out of the score, where the official code would fail or pair the wrong masks")
        return score

    return finish


def _match(predictions: Mapping[Any, Any], truths: Mapping[Any, Any], source: Path, truth_path: Path,
           section: str) -> tuple[TaskScore, list[Any]]:
    """A score with its counts, and the keys that both sides have, in the order of the ground truth."""
    known = [key for key in truths if key in predictions]
    unknown = [key for key in predictions if key not in truths]
    if predictions and not known:
        raise UserError(f"{source}: section '{section}': none of its images ({_some(unknown)}) is in "
                        f"{truth_path} ({_some(truths)}); give the ground truth of the same split")
    score = TaskScore(counts={"images": len(truths), "submitted": len(predictions), "scored": len(known),
                              "missing": len(truths) - len(known), "unknown": len(unknown)})
    if unknown:
        score.warnings.append(f"{len(unknown)} submitted images are not in the ground truth and do not count "
                              f"(the official code would fail): {_some(unknown)}")
    return score, known


def _warn_missing(score: TaskScore, meaning: str) -> None:
    if missing := score.counts["missing"]:
        score.warnings.append(f"{missing} of {score.counts['images']} images are missing: {meaning}")


def _warn_categories(score: TaskScore, predictions: Iterable[detection.SubmittedBoxes],
                     names: Collection[int]) -> None:
    categories = [category for item in predictions for category in item.category_ids.tolist()]
    unknown = [category for category in categories if category not in names]
    if unknown:
        score.warnings.append(f"{len(unknown)} of {len(categories)} boxes do not count, as the ground truth "
                              f"declares no such category: {_some(sorted(set(unknown)))}")


def _some(names: Iterable[Any]) -> str:
    return listed(list(names), _LISTED)


# ---- for the terminal ----


def format_scores(scores: Scores, per_class: bool = False) -> str:
    """The figures as a table, a line each, and the average with the tasks in it.

    Args:
        scores: of a submission.
        per_class: add the figure of every class.
    """
    rows = [("task", "figure", "value", "images", "scored", "missing", "unknown")]
    for name, score in scores.tasks.items():
        counts = tuple(str(score.counts[key]) for key in ("images", "scored", "missing", "unknown"))
        for number, (key, value) in enumerate(score.figures.items()):
            rows.append((name, key, f"{value:.4f}", *(counts if number == 0 else ("",) * 4)))
    rows.append(("", "average", f"{scores.average:.4f}", _tasks_of(scores)))
    lines = _aligned(rows)
    if per_class:
        lines += [line for name, score in scores.tasks.items() for line in ("", *_class_lines(name, score))]
    return "\n".join(lines)


def _tasks_of(scores: Scores) -> str:
    left_out = [name for name in SECTIONS if name not in scores.tasks]
    text = f"over {', '.join(scores.tasks)}"
    return f"{text}; not scored: {', '.join(left_out)} (no ground truth given)" if left_out else text


def _class_lines(name: str, score: TaskScore) -> list[str]:
    rows = [(name, SCORE_KEYS[name] if name == "cls" else {"det": "AP50", "seg": "IoU"}[name], "class")]
    rows += [(str(class_id), f"{value:.4f}", score.class_names.get(class_id, ""))
             for class_id, value in score.per_class.items()]
    return _aligned(rows)


def _aligned(rows: Sequence[Sequence[str]]) -> list[str]:
    """Columns as wide as their cells; the last cell of a shorter row does not count."""
    full = max(map(len, rows))
    widths = [max(len(row[i]) for row in rows if len(row) == full) for i in range(full)]
    return ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=False)).rstrip()
            for row in rows]
