"""Nothing that is read may run: no pickle but under `weights_only`, no YAML with tags, no eval."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
FILES = sorted(path for folder in ("ufo_ds", "launch", "shards") for path in (ROOT / folder).rglob("*.py"))
RUNNING = {"eval", "exec", "pickle.load", "pickle.loads", "pickle.Unpickler", "dill.load", "dill.loads", "joblib.load",
           "marshal.loads", "shelve.open", "yaml.unsafe_load", "yaml.full_load", "pandas.read_pickle"}  # fmt: skip


def problems(text):
    """Calls in a program that may run what they read, as `line: call`."""
    found = []
    for node in ast.walk(ast.parse(text)):
        if not isinstance(node, ast.Call):
            continue
        name, given = ast.unparse(node.func), {item.arg: ast.unparse(item.value) for item in node.keywords}
        last = name.rsplit(".", 1)[-1]
        unsafe = (
            name in RUNNING
            or (name in ("torch.load", "timm.models.load_state_dict") and given.get("weights_only") != "True")
            or (name in ("np.load", "numpy.load") and given.get("allow_pickle", "False") != "False")
            or (name == "yaml.load" and "Safe" not in given.get("Loader", ""))
            or (last in ("load_checkpoint", "load_state_dict_from_url") and given.get("weights_only", "True") != "True")
        )
        if unsafe:
            found.append(f"{node.lineno}: {name}")
    return found


def test_nothing_that_is_read_is_run():
    found = {str(path.relative_to(ROOT)): problems(path.read_text()) for path in FILES}
    assert len(found) > 80 and not {name: lines for name, lines in found.items() if lines}


@pytest.mark.parametrize("line", [
    "torch.load(path)", "torch.load(path, weights_only=False)", "pickle.loads(data)", "np.load(p, allow_pickle=True)",
    "yaml.load(text, Loader=yaml.FullLoader)", "yaml.unsafe_load(text)", "timm.models.load_state_dict(p)", "eval(text)",
])  # fmt: skip
def test_the_search_finds(line):
    assert problems(line)


def test_the_search_passes_what_is_safe():
    assert not problems("torch.load(path, weights_only=True); yaml.safe_load(text); np.load(path); json.loads(text)")
