"""Annotations as Pascal VOC writes them: an XML file an image."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path
from xml.etree.ElementTree import Element

from shards.layouts import Boxes
from shards.layouts.coco import is_finite
from shards.layouts.safe_xml import read_xml
from ufo_ds.data.schema import ClassInfo
from ufo_ds.errors import UserError, shown


@dataclass
class Annotations:
    """What the XML files of a folder say.

    Attributes:
        boxes: by stem, without an image id; their classes are names until `number_classes`.
        faults: why an image cannot be used, by stem.
    """

    boxes: dict[str, Boxes] = field(default_factory=dict)
    faults: dict[str, str] = field(default_factory=dict)

    @property
    def stems(self) -> set[str]:
        """Of all files."""
        return self.boxes.keys() | self.faults.keys()


def list_xml(folder: Path) -> list[Path]:
    """The XML files of a folder, sorted; none where there is no folder."""
    try:
        return sorted(path for path in folder.iterdir() if path.suffix.lower() == ".xml") if folder.is_dir() else []
    except OSError as error:
        raise UserError(f"{folder}: cannot be listed ({error.strerror}); mend the rights") from None


def read_annotations(folder: Path) -> Annotations:
    """All XML files of a folder."""
    found = Annotations()
    for path in list_xml(folder):
        try:
            root = read_xml(path)
            objects = [_read_object(item, number) for number, item in enumerate(root.findall("object"))]
            names = [f"{path.stem}.xml: object {number}" for number in range(1, len(objects) + 1)]
            found.boxes[path.stem] = Boxes(0, *_read_size(root), annotations=objects, annotation_names=names)
        except ValueError as fault:
            found.faults[path.stem] = str(fault) if path.name in str(fault) else f"{path.name}: {fault}"
    return found


def number_classes(parts: Iterable[Annotations], given: list[ClassInfo] | None) -> list[ClassInfo]:
    """Put ids from 0 in the place of names: of the classes given, or of the names that occur, sorted."""
    parts = list(parts)
    found = [item for part in parts for boxes in part.boxes.values() for item in boxes.annotations or ()]
    occurring = {item["category_id"] for item in found}
    classes = given or [ClassInfo(number, name) for number, name in enumerate(sorted(occurring))]
    ids = {item.name: item.id for item in classes}
    for part in parts:
        for stem, boxes in list(part.boxes.items()):
            annotations = boxes.annotations or []
            unknown = [item["category_id"] for item in annotations if item["category_id"] not in ids]
            if unknown:
                del part.boxes[stem]
                part.faults[stem] = f"{stem}.xml: class {shown(unknown[0])} is not in classes.txt"
            else:
                numbered = [{**item, "category_id": ids[item["category_id"]]} for item in annotations]
                part.boxes[stem] = replace(boxes, annotations=numbered)
    return classes


def _read_size(root: Element) -> tuple[int | None, int | None]:
    """(width, height) as declared; None where not, or as 0, as some tools do."""
    sides = [(root.findtext(f"size/{side}") or "").strip() for side in ("width", "height")]
    width, height = (int(side) if side.isascii() and side.isdigit() and len(side) < 10 else 0 for side in sides)
    return (width, height) if width and height else (None, None)


def _read_object(item: Element, number: int) -> dict:
    """An object as an annotation, its class still a name. `ValueError` says what is wrong.

    VOC's corners are pixels counted from 1, both inside the box: xmin 1, xmax 10 are the pixels 0 to 9.
    """
    name = (item.findtext("name") or "").strip()
    if not name or not name.isprintable():
        raise ValueError(f"object {number + 1}: name {shown(name)} is no name in printable text")
    try:
        corners = [float(item.findtext(f"bndbox/{key}") or "") for key in ("xmin", "ymin", "xmax", "ymax")]
    except ValueError:
        raise ValueError(f"object {number + 1} ({name:.40}): no bndbox of xmin, ymin, xmax, ymax") from None
    xmin, ymin, xmax, ymax = corners
    if not all(map(is_finite, corners)) or xmax < xmin or ymax < ymin:
        raise ValueError(f"object {number + 1} ({name:.40}): bndbox {shown(corners, 60)} has no area")
    bbox = [xmin - 1, ymin - 1, xmax - xmin + 1, ymax - ymin + 1]
    difficult = (item.findtext("difficult") or "0").strip() not in ("", "0", "false", "False")
    return {"bbox": bbox, "category_id": name, "iscrowd": int(difficult), "area": bbox[2] * bbox[3]}
