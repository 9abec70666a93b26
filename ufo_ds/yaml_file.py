"""A YAML file as one mapping: no tags, no key twice, no aliases that unfold to more than anyone would write."""

from __future__ import annotations

from typing import Any

import yaml

from ufo_ds.errors import UserError, shown
from ufo_ds.files import read_text

MAX_BYTES = 2**20
"""A recipe takes a few thousand."""
MAX_VALUES = 10_000
"""Values of a file with all its aliases written out."""


def read_mapping(path: str, kind: str = "recipe") -> dict[str, Any]:
    """The mapping in a YAML file; `kind` is what messages call it.

    Raises:
        UserError: it cannot be read, is no safe YAML, says a key twice, unfolds to too much, or is no mapping.
    """
    try:
        text = read_text(path, "utf-8-sig", MAX_BYTES)
    except OSError as error:
        raise UserError(f"{path}: cannot read the {kind} ({error.strerror}); give an existing YAML file") from None
    except ValueError as error:
        raise UserError(f"{path}: not valid YAML: {error}") from None
    try:
        node = yaml.compose(text, Loader=yaml.SafeLoader)
        if node is not None:
            _unfolded(node, {})
        values = yaml.safe_load(text)
    except RecursionError:
        raise UserError(f"{path}: not valid YAML: nested far too deeply for a {kind}; write it again") from None
    except UserError as error:
        raise UserError(f"{path}: {error}") from None
    except Exception as error:  # PyYAML's constructors raise whatever they like on odd scalars
        raise UserError(f"{path}: not valid YAML: {error}") from None
    if not isinstance(values, dict):
        example = "; see launch/recipes/toy.yaml" if kind == "recipe" else ""
        raise UserError(f"{path}: a {kind} is a mapping of keys{example}")
    return values


def _unfolded(node: yaml.Node, known: dict[int, int]) -> int:
    """How many values a node stands for, its aliases written out; each node is looked at once."""
    if id(node) in known:
        if not known[id(node)]:
            raise UserError(f"line {node.start_mark.line + 1}: an alias of what it stands in; write it out")
        return known[id(node)]
    known[id(node)] = 0
    parts: list[yaml.Node] = []
    if isinstance(node, yaml.MappingNode):
        _check_distinct(node)
        parts = [part for pair in node.value for part in pair]
    elif isinstance(node, yaml.SequenceNode):
        parts = node.value
    total = 1 + sum(_unfolded(part, known) for part in parts)
    if total > MAX_VALUES:
        raise UserError(f"line {node.start_mark.line + 1}: unfolds to more than {MAX_VALUES} values; use fewer aliases")
    known[id(node)] = total
    return total


def _check_distinct(node: yaml.MappingNode) -> None:
    seen = set()
    for key, _ in node.value:
        if isinstance(key, yaml.ScalarNode):
            if key.value in seen:
                where = f"line {key.start_mark.line + 1}: key {shown(key.value)}"
                raise UserError(f"{where} stands twice; keep one of them")
            seen.add(key.value)
