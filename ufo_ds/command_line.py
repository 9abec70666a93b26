"""Recipe files and `--any.key value` options -> a checked `Recipe`; errors name the key and suggest the right one."""

from __future__ import annotations

import dataclasses
import difflib
import functools
import re
import typing
from argparse import ArgumentError
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import yaml

from ufo_ds.errors import UserError, shown
from ufo_ds.files import replace_file
from ufo_ds.recipe import Recipe
from ufo_ds.recipe_limits import check_recipe
from ufo_ds.redaction import without_secrets
from ufo_ds.yaml_file import read_mapping

ROOT = Path(__file__).resolve().parents[1]


def recipe_keys(schema: type = Recipe, prefix: str = "") -> Iterator[str]:
    """All dotted keys of the schema, groups included."""
    hints = typing.get_type_hints(schema)
    for item in dataclasses.fields(schema):
        key = prefix + item.name
        yield key
        if dataclasses.is_dataclass(hints[item.name]):
            yield from recipe_keys(hints[item.name], key + ".")


def parse_recipe(
    parser_options: dict[str, Any],
    own: Sequence[tuple[tuple[str, ...], dict[str, Any]]],
    argv: Sequence[str],
    base: Callable[[Any], dict[str, Any]] | None = None,
) -> tuple[Recipe, Any]:
    """Parse a training command line.

    Args:
        parser_options: `prog`, `description` of the argument parser.
        own: the command's own options beside the recipe's, as arguments of `add_argument`.
        argv: the command line without the program.
        base: given the command's own options, nested values that recipe files and options override.

    Returns:
        The checked recipe, and a namespace with the command's own options.

    Raises:
        UserError: an unknown key (with the nearest right one), a wrong type, a value out of range, a broken file.
    """
    parser = _make_parser(parser_options, own)
    own_keys = {"config", "deepspeed_config", *_names_of(own)}
    arguments, given = _parse(parser, argv, {*recipe_keys(), *own_keys})
    values: dict[str, Any] = base(arguments) if base else {}
    for path in arguments.config:
        _merge(values, _read_recipe_file(path, parser))
    _merge(values, {key: value for key, value in given.items() if key not in own_keys})
    if arguments.deepspeed_config:
        values["deepspeed"] = arguments.deepspeed_config
    return _resolve(values, parser, "the command line"), arguments


def parse_section(
    parser_options: dict[str, Any],
    own: Sequence[tuple[tuple[str, ...], dict[str, Any]]],
    argv: Sequence[str],
    section: str,
) -> tuple[dict[str, Any], Any]:
    """Parse a command line of own options and the keys of one section of the recipe.

    Args:
        parser_options: `prog`, `description` of the argument parser.
        own: the command's own options, as arguments of `add_argument`.
        argv: the command line without the program.
        section: name of a field of the recipe.

    Returns:
        The nested values of the section's keys that were given, checked; and a namespace with the own options.

    Raises:
        UserError: as `parse_recipe`.
    """
    parser = _start_parser(parser_options, own)
    parser.add_class_arguments(typing.get_type_hints(Recipe)[section], section, as_group=True)
    known = {key for key in recipe_keys() if key.split(".")[0] == section} | _names_of(own)
    arguments, given = _parse(parser, argv, known)
    values = given.get(section) or {}
    recipe_from({section: values}, "the command line")
    return values, arguments


def _parse(parser: Any, argv: Sequence[str], known: set[str]) -> tuple[Any, dict[str, Any]]:
    """A command line of `known` keys: everything with its defaults, and what was given, nested. Raises `UserError`."""
    try:
        for key in _option_keys(argv):
            _check_key(key, "the command line", known)
        return parser.parse_args(list(argv), defaults=True), parser.parse_args(list(argv), defaults=False).as_dict()
    except ArgumentError as error:
        raise UserError(_one_line(str(error))) from None


def override_section(current: Any, section: str, given: dict[str, Any]) -> Any:
    """A section of a recipe with other values for some of its keys, checked. `UserError` names the command line."""
    values = dataclasses.asdict(current)
    _merge(values, given)
    return getattr(recipe_from({section: values}, "the command line"), section)


def recipe_from(values: dict[str, Any], where: str) -> Recipe:
    """A checked recipe from nested values; what is not given has its default. `UserError` names `where`."""
    _check_keys(values, where)
    return _resolve(values, _bare_parser(), where)


@functools.cache
def _bare_parser() -> Any:
    return _make_parser({}, ())


def _make_parser(options: dict[str, Any], own: Sequence[tuple[tuple[str, ...], dict[str, Any]]]) -> Any:
    config = {"action": "append", "default": [], "type": str, "metavar": "YAML"}
    config["help"] = "recipe file; given several times, later ones override"
    parser = _start_parser(options, [(("--config",), config), *own])
    parser.add_argument("--deepspeed_config", type=str, default=None, help="replaces the recipe's `deepspeed`")
    parser.add_class_arguments(Recipe, as_group=True)
    return parser


def _start_parser(options: dict[str, Any], own: Sequence[tuple[tuple[str, ...], dict[str, Any]]]) -> Any:
    from jsonargparse import ArgumentParser, set_parsing_settings

    set_parsing_settings(docstring_parse_attribute_docstrings=True)
    parser = ArgumentParser(exit_on_error=False, **options)
    for names, option in own:
        parser.add_argument(*names, **option)
    parser.add_argument("--local_rank", "--local-rank", type=int, default=None, help="set by launchers; not used")
    return parser


def _names_of(own: Sequence[tuple[tuple[str, ...], dict[str, Any]]]) -> set[str]:
    return {"local_rank", *(names[-1].lstrip("-").replace("-", "_") for names, _ in own)}


def _resolve(values: dict[str, Any], parser: Any, where: str) -> Recipe:
    try:
        parsed = parser.parse_object(values)
    except ArgumentError as error:
        raise UserError(f"{where}: {_one_line(str(error))}") from None
    try:
        recipe = _build(Recipe, parsed.as_dict())
        check_recipe(recipe)
    except UserError as error:
        raise UserError(f"{where}: {error}") from None
    return recipe


def read_recipe(path: Path) -> Recipe:
    """The resolved recipe of a run, as `write_recipe` left it. Raises `UserError`."""
    return recipe_from(read_mapping(str(path)), str(path))


def write_recipe(recipe: Recipe, path: Path) -> None:
    """Write every key as it was resolved, URLs without their secrets."""
    values = _plain(without_secrets(dataclasses.asdict(recipe)))
    replace_file(path, yaml.safe_dump(values, sort_keys=False))


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return value


def _option_keys(argv: Sequence[str]) -> Iterator[str]:
    for word in argv:
        if word.startswith("--") and len(word) > 2:
            yield word[2:].split("=", 1)[0]


def _check_key(key: str, where: str, keys: set[str]) -> None:
    known = {*keys, "help"}
    if key in known or key.replace("-", "_") in known or _is_free(key):
        return
    # Compare last parts too: a right name in a wrong group is the commonest slip.
    tails = {name.rsplit(".", 1)[-1]: name for name in known}
    near = difflib.get_close_matches(key, known, 1, 0.6) or [
        tails[tail] for tail in difflib.get_close_matches(key.rsplit(".", 1)[-1], tails, 1, 0.6)
    ]
    hint = f"; did you mean '{near[0]}'?" if near else "; --help lists the keys"
    raise UserError(f"{where}: unknown key '{key}'{hint}")


def _is_free(key: str) -> bool:
    """Keys below an open dictionary (arguments of timm or transformers, DeepSpeed settings)."""
    return any(key.startswith(stem + ".") for stem in ("model.trunk_kwargs", "tasks.det.decoder_kwargs", "deepspeed"))


def _read_recipe_file(path: str, parser: Any) -> dict[str, Any]:
    values = read_mapping(path)
    _check_keys(values, path)
    _resolve(values, parser, path)
    return values


def _check_keys(values: dict[str, Any], where: str, prefix: str = "") -> None:
    groups = {key.rsplit(".", 1)[0] for key in recipe_keys() if "." in key}
    for name, value in values.items():
        key = f"{prefix}{name}"
        _check_key(key, where, set(recipe_keys()))
        if key in groups:
            if not isinstance(value, dict):
                raise UserError(f"{where}: key '{key}' is {shown(value)}: a group of keys is expected")
            _check_keys(value, where, key + ".")


def _merge(into: dict[str, Any], other: dict[str, Any]) -> None:
    for key, value in other.items():
        if isinstance(value, dict) and isinstance(into.get(key), dict):
            _merge(into[key], value)
        else:
            into[key] = value


def _build(schema: type, values: dict[str, Any], prefix: str = "") -> Any:
    hints = typing.get_type_hints(schema)
    arguments = {}
    for item in dataclasses.fields(schema):
        value = values[item.name]
        key, kind = prefix + item.name, hints[item.name]
        if value is None and type(None) not in typing.get_args(kind):  # to jsonargparse, null is "not given"
            raise UserError(f"key '{key}' is null: give a value, or leave the key out")
        arguments[item.name] = _build(kind, value, key + ".") if dataclasses.is_dataclass(kind) else value
    return schema(**arguments)


def _one_line(text: str) -> str:
    """What jsonargparse says over several lines, as `key '...' is ...: expected ...`."""
    key = re.search(r'Parser key "([^"]+)"', text)
    expected = re.findall(r"Expected an? (.+?)(?:\. Got value: .*)?$", text, re.M)
    wanted = [kind for kind in expected if "NoneType" not in kind]
    given = re.findall(r"(?:Got|Given) value: (.*)$", text, re.M)
    if not key or not wanted:
        return " ".join(text.split())
    kind = re.sub(r"<class '(\w+)'>", r"\1", wanted[0]).replace("typing.Literal", "one of ")
    return f"key '{key[1]}'{f' is {given[-1]}' if given else ''}: expected {kind}"
