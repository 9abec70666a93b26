"""XML from strangers: no document type and so no entities, bounded in bytes and in depth."""

from __future__ import annotations

from pathlib import Path
from xml.etree.ElementTree import Element, TreeBuilder
from xml.parsers import expat

from ufo_ds.errors import reason_of
from ufo_ds.files import read_bytes

MAX_BYTES = 8 * 2**20
"""An annotation of ten thousand objects takes three megabytes."""
MAX_DEPTH = 32


def read_xml(path: Path) -> Element:
    """The root element of an XML file.

    Raises:
        ValueError: it cannot be read, is not well-formed, has a document type, or is too large or too deep.
    """
    try:
        data = read_bytes(path, MAX_BYTES)
    except (OSError, ValueError) as error:
        raise ValueError(f"{path.name} cannot be read: {reason_of(error)}") from None
    parser, builder = expat.ParserCreate(), TreeBuilder()
    depth = 0

    def start(tag: str, attributes: dict[str, str]) -> None:
        nonlocal depth
        depth += 1
        if depth > MAX_DEPTH:
            raise ValueError(f"{path.name}: elements more than {MAX_DEPTH} deep")
        builder.start(tag, attributes)

    def end(tag: str) -> None:
        nonlocal depth
        depth -= 1
        builder.end(tag)

    def refuse(*_: object) -> None:
        # Entities are declared in a document type alone: without one, nothing can unfold or fetch.
        raise ValueError(f"{path.name}: has a document type (<!DOCTYPE>); remove it")

    parser.StartElementHandler, parser.EndElementHandler = start, end
    parser.CharacterDataHandler, parser.StartDoctypeDeclHandler = builder.data, refuse
    try:
        parser.Parse(data, True)
    except (expat.ExpatError, LookupError) as error:  # LookupError: an encoding that nobody knows
        raise ValueError(f"{path.name}: not well-formed XML ({error})") from None
    return builder.close()
