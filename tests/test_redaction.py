"""What others may read holds no passwords."""

import json

import pytest

from ufo_ds.command_line import parse_recipe, read_recipe, write_recipe
from ufo_ds.environment import describe_environment
from ufo_ds.redaction import without_secrets

SECRET = "https://me:hidden@host:8/a/b?sig=hidden&x=hidden"
SHOWN = "https://***@host:8/a/b?***"


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        (SECRET, SHOWN),
        (f"--data.shards '{SECRET}' --run x", f"--data.shards '{SHOWN}' --run x"),
        (f"--data.shards={SECRET} --run x?", f"--data.shards={SHOWN} --run x?"),
        ("http://me:p@hidden@host/x", "http://***@host/x"),
        ("http://hidden@host", "http://***@host"),
        ("pipe:curl https://me:hidden@host/{} | cat", "pipe:curl https://***@host/{} | cat"),
        ("https://host/a@b", "https://host/a@b"),
        ("mail me@host?", "mail me@host?"),
        ("plain", "plain"),
    ],
)
def test_users_and_queries_of_urls_are_left_out(text, shown):
    assert without_secrets(text) == shown
    assert without_secrets({"a": [text, (text, 1)], "b": None}) == {"a": [shown, (shown, 1)], "b": None}


def test_what_a_run_writes_down_holds_none(tmp_path):
    recipe, _ = parse_recipe({}, [], ["--data.shards", SECRET])
    assert recipe.data.shards == SECRET
    write_recipe(recipe, tmp_path / "recipe.yaml")
    assert "hidden" not in (tmp_path / "recipe.yaml").read_text()
    assert read_recipe(tmp_path / "recipe.yaml").data.shards == SHOWN
    assert "hidden" not in json.dumps(describe_environment(["train.py", f"--data.shards={SECRET}"]))


@pytest.mark.parametrize("command", [
    "pipe:cat /a b/{}", "pipe:curl -H 'A: b' https://h/{}", "pipe: x {}", "pipe:a | b {} # c", "pipe:cat {}/x: {a: b}",
])  # fmt: skip
def test_a_command_comes_through_the_command_line_as_it_is(command, tmp_path):
    recipe, _ = parse_recipe({}, [], ["--data.shards", command])
    assert recipe.data.shards == command
    write_recipe(recipe, tmp_path / "recipe.yaml")
    assert read_recipe(tmp_path / "recipe.yaml").data.shards == command
