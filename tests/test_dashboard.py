import json
import re
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import pytest

from ufo_ds import dashboard
from ufo_ds.errors import UserError
from ufo_ds.tracking import flatten

SCRIPT = Path(__file__).resolve().parents[1] / "launch" / "dashboard.py"
KEY = "0" * 40
TASKS = ["cls", "det", "seg"]
PAIRS = ["cls-det", "cls-seg", "det-seg"]
RECORD = {  # docs/design.md, Log
    "step": 12, "epoch": dict.fromkeys(TASKS, 0.3), "lr": 1e-4, "loss": dict.fromkeys(TASKS, 1.2),
    "loss_parts": {"det": {"loss_vfl": 0.3, "loss_bbox": 0.1}, "seg": {"loss_main": 1.4, "loss_aux": 1.5}},
    "surgery": {
        "tasks": TASKS, "weights": [1, 1, 1], "grad_norm": dict.fromkeys(TASKS, 0.5), "norm_ratio": 2.0,
        "cosine": [[1, 0.1, 0.2], [0.1, 1, -0.3], [0.2, -0.3, 1]], "conflicts": 0.33, "solver_failed": True,
        "blocks": {"names": ["embedding", "block 0", "block 11"], "pairs": PAIRS, "conflicts": [0, 0.3, 1],
                   "cosine": [[0.1, 0.2, 0.3]] * 3},
    },
    "grad_norm": 1.3, "replaced": 0,
    "perf": {"images_per_s": 33.1, "step_s": 0.6, "data_s": 0.01, "memory_mb": 812.0},
    "val": {"cls": {"top1": 0.4}, "det": {"mAP50": 0.2, "mAP": 0.1}, "seg": {"mIoU": 0.3, "mIoU_present": 0.5},
            "average": 0.3},
}
IMAGES = [*(f"pictures/{task}" for task in TASKS), "surgery/conflicts_over_time", "surgery/conflicts_over_depth"]


@pytest.fixture(autouse=True)
def keyless(monkeypatch, tmp_path):
    """No key, whatever this machine holds, and nowhere to save to."""
    pytest.importorskip("wandb_workspaces", reason="wandb-workspaces is not installed (extra: dashboard)")
    for name in ("WANDB_API_KEY", "WANDB_IDENTITY_TOKEN_FILE", "WANDB_MODE", "WANDB_ENTITY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    monkeypatch.setenv("WANDB_BASE_URL", "http://127.0.0.1:9")
    # wandb reads its settings once a process, which may have been before this.
    settings = SimpleNamespace(api_key=None, base_url="http://127.0.0.1:9")
    monkeypatch.setattr("wandb.setup", lambda: SimpleNamespace(settings=settings))


@pytest.fixture
def saved(monkeypatch) -> list:
    """The workspaces that were saved instead of sent."""
    from wandb_workspaces.workspaces import Workspace

    found: list = []
    monkeypatch.setattr(Workspace, "save", lambda workspace: found.append(workspace))
    monkeypatch.setattr(Workspace, "url", property(lambda workspace: f"https://wandb/{workspace.entity}"))
    return found


def spec_panels() -> list[dict]:
    spec = dashboard.to_json(dashboard.build("ufo-ds", "UFO-DS"))["spec"]
    return [panel for section in spec["section"]["panelBankConfig"]["sections"] for panel in section["panels"]]


def is_shown(name: str, configs: list[dict]) -> bool:
    return any(name in config.get("metrics", ()) or re.search(config.get("metricRegex") or r"(?!)", name)
               for config in configs)


def test_every_number_that_a_run_logs_is_on_a_panel():
    configs = [panel["config"] for panel in spec_panels()]
    names = flatten(RECORD)
    assert len(names) > 45
    assert [name for name in names if not is_shown(name, configs)] == []
    assert not is_shown("surgery/unheard_of", configs)


def test_no_panel_waits_for_a_number_that_no_run_logs():
    names = flatten(RECORD)
    for config in (panel["config"] for panel in spec_panels() if "mediaKeys" not in panel["config"]):
        assert set(config["metrics"]) <= set(names), config["chartTitle"]
        assert config["metrics"] or any(re.search(config["metricRegex"], name) for name in names)


def test_the_pictures_are_on_a_panel():
    shown = [key for panel in spec_panels() for key in panel["config"].get("mediaKeys", ())]
    assert sorted(shown) == sorted(IMAGES)


def test_every_line_is_over_the_steps_and_every_title_its_own():
    panels = spec_panels()
    assert {panel["config"]["xAxis"] for panel in panels if panel["viewType"] == "Run History Line Plot"} == {"step"}
    titles = [panel["config"]["chartTitle"] for panel in panels]
    assert len(set(titles)) > 25
    for section in dashboard.LAYOUT:
        assert len({panel.title for panel in section.panels}) == len(section.panels)
        assert section.columns * section.rows >= len(section.panels)  # else wandb turns pages


def test_without_a_key_it_is_built_and_not_saved(saved, tmp_path):
    line = dashboard.publish("ufo-ds", "UFO-DS", out=tmp_path / "a" / "w.json")
    assert "6 sections" in line and "WANDB_API_KEY" in line and "\n" not in line
    assert saved == []
    written = json.loads((tmp_path / "a" / "w.json").read_text())
    assert written["displayName"] == "UFO-DS" and written["project"] == "ufo-ds"


def test_a_key_saves_it(saved, monkeypatch):
    monkeypatch.setenv("WANDB_API_KEY", KEY)
    assert dashboard.publish("ufo-ds", "UFO-DS", "me").endswith("saved: https://wandb/me")
    assert [workspace.entity for workspace in saved] == ["me"]


def test_a_key_of_wandb_login_counts(saved, tmp_path):
    (tmp_path / "netrc").write_text(f"machine 127.0.0.1:9\n  login user\n  password {KEY}\n")
    dashboard.publish("ufo-ds", "UFO-DS", "me")
    assert len(saved) == 1


@pytest.mark.parametrize(("check", "mode", "reason"), [(True, "", "--check"), (False, "offline", "WANDB_MODE")])
def test_it_is_not_saved_against_the_users_will(saved, monkeypatch, check, mode, reason):
    monkeypatch.setenv("WANDB_API_KEY", KEY)
    monkeypatch.setenv("WANDB_MODE", mode)
    assert f"not saved: {reason}" in dashboard.publish("ufo-ds", "UFO-DS", "me", check=check)
    assert saved == []


def test_the_entity_is_asked_of_wandb_only_to_save(saved, monkeypatch):
    import wandb

    monkeypatch.setattr(wandb, "Api", lambda: SimpleNamespace(settings={"entity": None}, default_entity="own"))
    monkeypatch.setenv("WANDB_API_KEY", KEY)
    dashboard.publish("ufo-ds", "UFO-DS")
    assert [workspace.entity for workspace in saved] == ["own"]


def test_a_network_that_fails_is_one_line(monkeypatch):
    from wandb_workspaces.workspaces import Workspace

    def fail(workspace):
        raise ConnectionError("no route\nto host")

    monkeypatch.setattr(Workspace, "save", fail)
    monkeypatch.setenv("WANDB_API_KEY", KEY)
    with pytest.raises(UserError, match=r"not saved .*no route to host.*check the network"):
        dashboard.publish("ufo-ds", "UFO-DS", "me")


def test_a_key_of_the_wrong_form_is_one_line(monkeypatch):
    monkeypatch.setenv("WANDB_API_KEY", "short")
    with pytest.raises(UserError, match=r"40\+ characters"):
        dashboard.publish("ufo-ds", "UFO-DS", "me")


def test_the_absent_package_is_one_line(monkeypatch):
    monkeypatch.setitem(sys.modules, "wandb_workspaces", None)
    monkeypatch.delitem(sys.modules, "wandb_workspaces.workspaces", raising=False)
    monkeypatch.delitem(sys.modules, "wandb_workspaces.reports.v2", raising=False)
    with pytest.raises(UserError, match=r"pip install 'ufo-ds\[dashboard\]'"):
        dashboard.build("ufo-ds", "UFO-DS")


@pytest.mark.parametrize(("project", "name"), [("a/b", "UFO-DS"), ("", "UFO-DS"), ("ufo-ds", "\U0001f600")])
def test_names_that_wandb_does_not_allow(project, name):
    with pytest.raises(UserError, match=r"--project|name"):
        dashboard.build(project, name)


def launch(*arguments: str) -> subprocess.CompletedProcess:
    return subprocess.run([sys.executable, SCRIPT, *arguments], capture_output=True, text=True, timeout=60)


def test_the_command_line_ends_well_without_a_key():
    result = launch()
    assert (result.returncode, result.stderr) == (0, "")
    assert "built and checked; not saved: there is no wandb key" in result.stdout


def test_the_command_line_finds_the_key_of_wandb_login(monkeypatch, tmp_path):
    (tmp_path / "netrc").write_text(f"machine 127.0.0.1:9\n  login user\n  password {KEY}\n")
    monkeypatch.setenv("WANDB_MODE", "offline")
    assert "not saved: WANDB_MODE is offline" in launch().stdout


def test_help_is_quick():
    started = time.perf_counter()
    result = launch("--help")
    assert result.returncode == 0 and "--check" in result.stdout
    assert time.perf_counter() - started < 2
