import dataclasses

import pytest

from ufo_ds.command_line import parse_recipe, read_recipe, recipe_keys, write_recipe
from ufo_ds.errors import UserError
from ufo_ds.recipe import Recipe

OWN = [(("--run",), {"type": str}), (("--resume",), {"action": "store_true"})]


def parse(*argv):
    return parse_recipe({"prog": "train.py"}, OWN, [str(word) for word in argv])


@pytest.fixture
def recipe_file(tmp_path):
    path = tmp_path / "recipe.yaml"
    path.write_text("train: {steps: 5}\nmodel: {trunk_kwargs: {depth: 3}}\noptimizer: {lr: 1e-4}\n")
    return path


def test_options_override_the_file_and_launcher_arguments_pass(recipe_file):
    recipe, own = parse(
        "--config",
        recipe_file,
        "--tasks.cls.size",
        "[64, 96]",
        "--model.trunk_kwargs.embed_dim",
        "8",
        "--run",
        "out",
        "--resume",
        "--local_rank=1",
        "--deepspeed_config",
        "x.json",
    )
    assert recipe.train.steps == 5 and recipe.optimizer.lr == 1e-4
    assert recipe.tasks.cls.size == (64, 96)
    assert recipe.model.trunk_kwargs == {"depth": 3, "embed_dim": 8}
    assert recipe.deepspeed == "x.json"
    assert own.run == "out" and own.resume


def test_written_recipe_reads_back_the_same(tmp_path, recipe_file):
    recipe, _ = parse("--config", recipe_file, "--tasks.names", "[det, cls]", "--train.clip", "1.5")
    write_recipe(recipe, tmp_path / "resolved.yaml")
    assert read_recipe(tmp_path / "resolved.yaml") == recipe


@pytest.mark.parametrize(
    ("argv", "line"),
    [
        (["--train.stesp", "5"], "unknown key 'train.stesp'; did you mean 'train.steps'?"),
        (["--steps", "5"], "unknown key 'steps'; did you mean 'train.steps'?"),
        (["--train.steps", "many"], "key 'train.steps' is many: expected int"),
        (["--train.steps", "-4"], "key 'train.steps' is -4: must be at least 1"),
        (["--tasks.names", "[cls, dog]"], "is ['cls', 'dog']: expected one of ['cls', 'det', 'seg']"),
        (["--tasks.names", "[cls, cls]"], "key 'tasks.names'"),
        (["--tasks.det.levels", "[8, 32]"], "each twice the one before"),
        (["--optimizer.layer_decay", "1.5"], "must be in (0, 1]"),
        (["--config", "no-such.yaml"], "no-such.yaml: cannot read the recipe"),
        (["--train.steps"], "expected one argument"),
    ],
)
def test_a_mistake_on_the_command_line_gets_one_line(argv, line):
    with pytest.raises(UserError) as error:
        parse(*argv)
    assert line in str(error.value) and "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("train: {stesp: 5}", "unknown key 'train.stesp'; did you mean 'train.steps'?"),
        ("trian: {steps: 5}", "unknown key 'trian'; did you mean 'train'?"),
        ("train: {steps: many}", "train.steps"),
        ("train: 5", "train"),
        ("- 1", "a recipe is a mapping"),
        ("train: {steps: 5", "not valid YAML"),
    ],
)
def test_a_mistake_in_a_file_names_the_file(tmp_path, text, line):
    path = tmp_path / "bad.yaml"
    path.write_text(text)
    with pytest.raises(UserError) as error:
        parse("--config", path)
    assert line in str(error.value) and str(path) in str(error.value)


def test_every_key_has_a_docstring():
    import inspect

    import ufo_ds.recipe as module

    for schema in vars(module).values():
        if dataclasses.is_dataclass(schema):
            source = inspect.getsource(schema)
            for item in dataclasses.fields(schema):
                after = source[source.index(f"    {item.name}: ") :]
                assert after.split("\n", 1)[1].lstrip().startswith('"""'), f"{schema.__name__}.{item.name}"
    assert "surgery.method" in set(recipe_keys(Recipe))
