"""Segmentation: predictions, mean IoU, and the section `seg` of a submission."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cv2
import msgspec
import numpy as np

from ufo_ds.errors import UserError, reason_of
from ufo_ds.files import read_bytes
from ufo_ds.polygons import encode_mask, paint
from ufo_ds.submission import Polygons, mask_to_polygons, polygons_to_mask, read_polygons
from ufo_ds.submission_pieces import DoubtError, parse_polygons

if TYPE_CHECKING:
    from ufo_ds.data.schema import RawSample, TaskMeta

IGNORE = 255
"""Label of the pixels that are not scored."""

_EXACT_PIXELS = 2**24
"""OpenCV counts in float32, which has every integer up to here."""
_IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg")


@dataclass
class MaskPrediction:
    """The classes of one image's pixels: `mask` is uint8 [H, W] of class ids at the image's original size."""

    file_name: str
    mask: np.ndarray

    def raster(self, size: tuple[int, int]) -> np.ndarray:
        """The mask, which has to have `size` (H, W)."""
        assert self.mask.shape == tuple(size), (self.file_name, self.mask.shape, size)
        return self.mask

    def as_polygons(self) -> PolygonPrediction:
        """The same prediction in the form of a submission, about a tenth of the memory; exact."""
        return PolygonPrediction(self.file_name, mask_to_polygons(self.mask))


@dataclass
class PolygonPrediction:
    """The classes of one image's pixels as a submission states them, by contours in pixels."""

    file_name: str
    polygons: Polygons

    def raster(self, size: tuple[int, int]) -> np.ndarray:
        """The mask, uint8 [H, W] of `size` (H, W)."""
        return polygons_to_mask(self.polygons, size)

    def as_polygons(self) -> PolygonPrediction:
        """Itself."""
        return self


@dataclass
class EncodedPrediction:
    """The same as the text of a submission: small, and quickly sent to another process.

    `raster` raises `DoubtError` where the text is not certainly in order.
    """

    file_name: str
    text: bytes

    @property
    def polygons(self) -> msgspec.Raw:
        """The text, for a section to be written."""
        return msgspec.Raw(self.text)

    def as_polygons(self) -> EncodedPrediction:
        """Itself."""
        return self

    def raster(self, size: tuple[int, int]) -> np.ndarray:
        """The mask, uint8 [H, W] of `size` (H, W)."""
        return paint(parse_polygons(self.text).items(), size)


def encode(prediction: MaskPrediction) -> EncodedPrediction:
    """The same prediction as the text of a submission; exact."""
    return EncodedPrediction(prediction.file_name, encode_mask(prediction.mask))


Masks = MaskPrediction | PolygonPrediction | EncodedPrediction


class MaskMetric:
    """Mean intersection over union of `num_classes` (K) classes with the ids 0..K-1. A `Metric`."""

    def __init__(self, num_classes: int) -> None:
        self.num_classes = num_classes
        # Rows: the label. Columns: the prediction; the last one for whatever is no class at all.
        self.confusion = np.zeros((num_classes, num_classes + 1), np.int64)

    def update(self, predictions: Sequence[Masks], truths: Sequence[np.ndarray]) -> None:
        """Count these images; truths are uint8 [H, W] with 255 for pixels that are not scored.

        Raises:
            UserError: a label that is neither a class nor 255.
        """
        for prediction, truth in zip(predictions, truths, strict=True):
            counts = _joint_histogram(truth, prediction.raster(truth.shape))
            self._check_labels(counts[:IGNORE].sum(axis=1), prediction.file_name)
            self.confusion[:, :-1] += counts[: self.num_classes, : self.num_classes]
            self.confusion[:, -1] += counts[: self.num_classes, self.num_classes :].sum(axis=1)

    def _check_labels(self, pixels: np.ndarray, file_name: str) -> None:
        foreign = np.flatnonzero(pixels[self.num_classes :]) + self.num_classes
        if len(foreign):
            raise UserError(
                f"label of {file_name}: class id {foreign[0]}, but {self.num_classes} classes are declared "
                f"(ids from 0; {IGNORE} is ignored); declare them all: --seg-classes of launch/evaluate.py, "
                "seg/classes.txt of a data set"
            )

    def state(self) -> np.ndarray:
        """Pixels, int64 [K, K + 1]: label by prediction."""
        return self.confusion

    def merge(self, states: Sequence[np.ndarray]) -> None:
        """Become the sum of `states`."""
        self.confusion = sum(states, np.zeros_like(self.confusion))

    def compute(self) -> dict[str, float]:
        """`mIoU` over all K classes, an unseen one counting 0; `mIoU_present` over those in the labels."""
        iou = self._iou()
        present = self.confusion.sum(axis=1) > 0
        in_labels = float(iou[present].mean()) if present.any() else 0.0
        return {"mIoU": float(iou.mean()), "mIoU_present": in_labels}

    def per_class(self) -> dict[int, float]:
        """IoU by class id, for the classes in labels or predictions."""
        seen = self.confusion.sum(axis=1) + self.confusion[:, :-1].sum(axis=0)
        return {class_id: float(value) for class_id, value in enumerate(self._iou()) if seen[class_id]}

    def _iou(self) -> np.ndarray:
        hits = np.diagonal(self.confusion)
        union = self.confusion.sum(axis=1) + self.confusion[:, :-1].sum(axis=0) - hits
        return hits / np.maximum(union, 1)


def _joint_histogram(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """How often each pair of values occurs in two uint8 [H, W]: int64 [256, 256]."""
    counts = np.zeros((256, 256), np.int64)
    flat = [np.ravel(mask) for mask in (first, second)]
    for start in range(0, first.size, _EXACT_PIXELS):
        parts = [mask[start : start + _EXACT_PIXELS] for mask in flat]
        counts += cv2.calcHist(parts, [0, 1], None, [256, 256], [0, 256, 0, 256]).astype(np.int64)
    return counts


class MaskFolder(Mapping[str, np.ndarray]):
    """Label masks of a folder by stem, each read when it is asked for: a thousand would fill the memory."""

    def __init__(self, folder: Path) -> None:
        try:
            paths = sorted(folder.iterdir())
        except OSError as error:
            problem = f"is no folder that can be read ({error.strerror})"
            raise UserError(f"{folder}: {problem}; give the folder of the label masks (PNG)") from None
        self.paths: dict[str, Path] = {}
        for path in (path for path in paths if path.suffix.lower() == ".png"):
            if self.paths.setdefault(path.stem, path) != path:
                raise UserError(f"{path}: stands beside {self.paths[path.stem].name}; keep one of them")
        if not self.paths:
            raise UserError(f"{folder}: holds no PNG; give the folder of the label masks")

    def __getitem__(self, stem: str) -> np.ndarray:
        return read_mask(self.paths[stem])

    def __contains__(self, stem: object) -> bool:
        return stem in self.paths  # Mapping's own would decode the mask

    def __iter__(self) -> Iterator[str]:
        return iter(self.paths)

    def __len__(self) -> int:
        return len(self.paths)


def read_mask(path: Path) -> np.ndarray:
    """A label PNG -> uint8 [H, W] of class ids. `UserError` names it."""
    try:
        data = read_bytes(path)
    except (OSError, ValueError) as error:
        raise UserError(f"{path}: cannot be read ({reason_of(error)}); mend or remove it") from None
    return decode_mask(data, str(path))


def decode_mask(data: bytes, where: str) -> np.ndarray:
    """A label PNG (grey or palette) -> uint8 [H, W] of class ids. `UserError` begins with `where`."""
    from ufo_ds.data import decode

    try:
        return decode.decode_mask(data)
    except decode.DecodeError as error:
        raise UserError(f"{where}: {error}; mend or remove it") from None


def stem_of(name: str) -> str:
    """The key under which a submission's image is looked up: its name without an image's extension."""
    base, dot, suffix = name.rpartition(".")
    return base if base and dot + suffix.lower() in _IMAGE_SUFFIXES else name


def truth_of(raw: RawSample, meta: TaskMeta) -> np.ndarray:
    """The label mask in a sample, uint8 [H, W]. `UserError` where it has none."""
    if (label := raw.mask) is None:
        raise UserError(f"{raw.file_name}: has no label mask; score a labelled split")
    return decode_mask(label, f"label of {raw.file_name}")


def write_section(predictions: Sequence[Masks], as_objects: bool = False) -> Any:
    """Predictions -> the section `seg`, by `<stem>.png`: single-key objects, or one object."""
    images = {f"{stem_of(item.file_name)}.png": item.as_polygons().polygons
              for item in sorted(predictions, key=lambda item: item.file_name)}
    return images if as_objects else [{name: polygons} for name, polygons in images.items()]


def read_section(value: Any, path: Path) -> dict[str, PolygonPrediction]:
    """The section `seg`, either form -> predictions by stem. `UserError` names `path` and the entry."""
    predictions: dict[str, PolygonPrediction] = {}
    for name, polygons in read_polygons(value, path).items():
        earlier = predictions.setdefault(stem_of(name), PolygonPrediction(name, polygons))
        if earlier.polygons != polygons:
            raise UserError(f"{path}: section 'seg': {earlier.file_name!r} and {name!r} differ; keep one")
    return predictions


def read_texts(images: Mapping[str, bytes]) -> dict[str, EncodedPrediction]:
    """Texts by file name -> predictions by stem, not parsed. `DoubtError` where two have one stem."""
    predictions = {stem_of(name): EncodedPrediction(name, text) for name, text in images.items()}
    if len(predictions) != len(images):
        raise DoubtError
    return predictions


def count_pixels(job: tuple[int, Sequence[tuple[PolygonPrediction | EncodedPrediction, Path | None]]]) -> np.ndarray:
    """A job for another process: (K, predictions with their labels' paths) -> the state of a `MaskMetric`.

    A prediction without a label is only read.
    """
    num_classes, pairs = job
    metric = MaskMetric(num_classes)
    for prediction, path in pairs:
        if path is None:
            prediction.raster((0, 0))
        else:
            metric.update([prediction], [read_mask(path)])
    return metric.state()


def read_truth(path: Path, meta: TaskMeta | None = None) -> MaskFolder:
    """A folder of label masks -> masks by stem, read on demand; the metric checks their ids."""
    return MaskFolder(Path(path))
