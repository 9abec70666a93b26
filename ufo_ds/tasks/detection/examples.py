"""Detection: raw sample -> example -> batch."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from ufo_ds.data.batch import Batch, Example
from ufo_ds.data.companions import Chance, Companion, Near
from ufo_ds.data.decode import EncodedImage
from ufo_ds.data.pixels import uniform
from ufo_ds.data.placement import Placement, fit_scale
from ufo_ds.data.schema import RawSample, TaskMeta
from ufo_ds.data.shards import ShardSet
from ufo_ds.recipe import DetConfig
from ufo_ds.tasks.detection.pasting import paste
from ufo_ds.tasks.detection.rare import Cutout, RareBoxes
from ufo_ds.tasks.detection.scene import Picture, Target, mosaic, read_label, to_target, view, visible

__all__ = ["EvalTransform", "Target", "TrainTransform", "collate", "make_target", "read_label"]

QUARTER = "quarter of a mosaic"
"""What a companion is wanted for; the other use is a `Cutout`."""


class TrainTransform:
    """The image at a random scale on the canvas: a random crop where larger, at a random place where smaller.

    Scales are relative to the one that fits the image to the canvas. Colours are jittered, and the canvas is
    mirrored at random. The target is a `Target`.

    On request (`mosaic`, `copy_paste`) the canvas is one of four images, and objects of others are pasted onto it.
    """

    def __init__(self, config: DetConfig, meta: TaskMeta) -> None:
        self.config, self.meta = config, meta
        self._rare: RareBoxes | None = None

    def survey(self, shards: ShardSet) -> None:
        """With `copy_paste`, read all labels of the split. Raises `UserError`."""
        if self.config.copy_paste:
            self._rare = RareBoxes.find(shards)

    def companions(self, chance: Chance, near: Near) -> list[Companion]:
        """Images for a mosaic from the neighbourhood, and cutouts from everywhere."""
        found = []
        if chance.uniform() < self.config.mosaic:
            found += [Companion(index, QUARTER) for index in near(3)]
        if chance.uniform() < self.config.copy_paste:
            assert self._rare, "survey() comes first"
            found += [self._rare.draw(chance) for _ in range(1 + chance.below(self.config.copy_paste_max))]
        return found

    def __call__(self, raw: RawSample, companions: Sequence[tuple[RawSample, Any]] = ()) -> Example:
        """`UserError` where a sample has no annotations; `DecodeError` for broken bytes of the own one."""
        picture, canvas = Picture(raw), tuple(self.config.size)
        others = [other for other, use in companions if use == QUARTER]
        if others:
            scene, scale, left_out = mosaic(picture, others, self.config, self.meta)
        else:
            (scene, scale), left_out = view(picture, canvas, self.config, self.meta), 0
        for other, use in companions:
            if isinstance(use, Cutout):
                left_out += not paste(scene, other, use, self.config, self.meta)
        pixels, target = scene.pixels, scene.target()
        if uniform(0, 1) < self.config.hflip:
            pixels = pixels.flip(-1)
            target["boxes"][:, 0] = 1 - target["boxes"][:, 0]
        return Example(pixels, target, source_of(raw, picture.label, picture.image.size, scale), left_out)


class EvalTransform:
    """The image fitted to the canvas, in its top left corner: canvas pixels / `source["scale"]` = original
    ones.
    """

    def __init__(self, config: DetConfig, meta: TaskMeta) -> None:
        self.config, self.meta = config, meta

    def __call__(self, raw: RawSample) -> Example:
        """The target is None without annotations, all in classes of `meta` (the weights may have others)."""
        label = read_label(raw)
        image = EncodedImage(raw.image)
        size, canvas = image.size, tuple(self.config.size)
        scale = fit_scale(size, canvas)
        decoded, reduction = image.decode(scale)
        place = Placement.at_origin(size, canvas, scale).reduced(reduction)
        annotations, known, target = label.get("annotations"), set(self.meta.class_ids), None
        if annotations is not None and {item["category_id"] for item in annotations} <= known:
            target = make_target(annotations, place, size, self.config, self.meta)
        return Example(place.paste(place.window(decoded)), target, source_of(raw, label, size, scale))


def collate(examples: Sequence[Example]) -> Batch:
    """Images uint8 [B, 3, H, W]; targets a list of `Target`, or None where a sample has none."""
    targets = [example.target for example in examples]
    images = torch.stack([example.image for example in examples])
    sources = [example.source for example in examples]
    return Batch("det", images, None if None in targets else targets, sources)


def make_target(
    annotations: Sequence[dict[str, Any]],
    place: Placement,
    size: tuple[int, int],
    config: DetConfig,
    meta: TaskMeta,
) -> Target:
    """The boxes that are to be found on the canvas; see `scene.visible`."""
    return to_target(*visible(annotations, place, size, config, meta), place.canvas)


def source_of(raw: RawSample, label: dict[str, Any], size: tuple[int, int], scale: float) -> dict[str, Any]:
    """What maps predictions back to the original; `scale` is in pixels of the canvas an original pixel."""
    return {"file_name": raw.file_name, "image_id": label["image_id"], "size": size, "scale": scale}
