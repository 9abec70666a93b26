import json
import math
import re
import subprocess
import sys
import time
from html.parser import HTMLParser
from pathlib import Path

import cv2
import numpy as np
import pytest

from ufo_ds.errors import UserError
from ufo_ds.report import write_report
from ufo_ds.report.charts import (
    Series,
    format_number,
    line_chart,
    log_ticks,
    moving_average,
    nice_ticks,
    sparkline,
)
from ufo_ds.report.record import read_log, read_run

TASKS = ["cls", "det", "seg"]
HOSTILE = "<script>alert('x')</script>\"><img src=x onerror=alert(1)>"
ROOT = Path(__file__).resolve().parents[1]


# ---- a run that never was ----


def fake_record(step: int, steps: int, rng: np.random.Generator) -> dict:
    decay = math.exp(-4 * step / steps)
    losses = {name: a * decay * rng.uniform(0.8, 1.2) for name, a in (("cls", 4), ("det", 18), ("seg", 2))}
    cosine = np.eye(3) + (1 - np.eye(3)) * rng.normal(0, 0.1)
    row = {
        "step": step, "epoch": dict.fromkeys(TASKS, 0.1), "lr": 1e-4 * decay, "loss": losses,
        "loss_parts": {"det": {f"loss_{i}": losses["det"] / (i + 1) for i in range(10)}},
        "surgery": {"tasks": TASKS, "weights": [1.0, 1.1, 1.2], "grad_norm": losses,
                    "cosine": cosine.tolist(), "conflicts": float(cosine[0, 1] < 0)},
        "grad_norm": losses["det"],
        "perf": {"images_per_s": 30.0, "step_s": 0.5, "data_s": 0.01, "memory_mb": 800.0},
    }
    row["trunk"] = {"own": {"cls": {"block 1 ffn": 0.5 + step / steps / 4}}, "width": {"depth": None, "mlp": 0.5}}
    if step % max(steps // 5, 1) == 0:
        score = 0.8 * (1 - decay)
        row["val"] = {"cls": {"top1": score}, "det": {"mAP50": score, "mAP": score / 2},
                      "seg": {"mIoU": score, "mIoU_present": score}, "average": score}
    return row


@pytest.fixture
def run(tmp_path) -> Path:
    folder = tmp_path / "fake_run"
    folder.mkdir()
    rng = np.random.default_rng(0)
    rows = [fake_record(step, 300, rng) for step in range(1, 301)]
    rows[99]["loss"]["det"] = None
    (folder / "log.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    recipe = "model: {trunk: vit_tiny}\ntrain: {steps: 400}\nsurgery: {method: pcgrad}\n"
    (folder / "recipe.yaml").write_text(recipe)
    (folder / "environment.json").write_text(json.dumps(
        {"date": "2025-01-02T03:04:05+00:00", "command": "train.py", "world_size": 2, "gpus": [],
         "git": {"revision": "0123456789abcdef", "dirty": True}, "versions": {"torch": "2.11"}}))
    for name in TASKS:
        (folder / "gallery" / name).mkdir(parents=True)
        for number in range(2):
            picture = rng.integers(0, 255, (40, 90, 3)).astype(np.uint8)
            cv2.imwrite(str(folder / "gallery" / name / f"{number:02d}.jpg"), picture)
    classes = [{"id": 0, "name": "road"}, {"id": 1, "name": HOSTILE}]
    (folder / "weights" / "last").mkdir(parents=True)
    config = {"tasks": {"seg": {"classes": classes}}}
    (folder / "weights" / "last" / "config.json").write_text(json.dumps(config))
    return folder


class Page(HTMLParser):
    """A parsed page: its tags with attributes, its scripts, its text; the nesting is checked."""

    VOID = ("meta", "img", "br", "link", "input", "hr")

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict]] = []
        self.open: list[str] = []
        self.scripts: list[str] = []
        self.text = ""
        self.feed(path.read_text(encoding="utf-8"))
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open[-1:] == ["script"]:
            self.scripts.append(data)
        elif self.open[-1:] != ["style"]:
            self.text += data

    def charts(self) -> list[dict]:
        return [json.loads(values["data-chart"]) for _, values in self.tags if "data-chart" in values]

    def count(self, tag: str) -> int:
        return sum(name == tag for name, _ in self.tags)


def report(run: Path, **options) -> Page:
    return Page(write_report(run, run / "report.html", **options))


# ---- the page ----


def test_page_of_a_whole_run(run):
    page = report(run, scores={"top1": 0.512, "mAP50": 0.413, "mIoU": 0.314, "average": 0.413})
    for text in ("fake_run", "vit_tiny", "pcgrad", "300 of 400", "2 min 30 s", "0123456789, with changes",
                 "2025-01-02 03:04", "0.512", "0.314", "Average", "Top-1", "road", "at step 300", "2.11",
                 "Not finite in 1 of 300 steps.", "The 8 largest; 2 more in the log.",
                 "At the end its own copy is the likelier in 1 of 1."):
        assert text in page.text, text
    assert page.text.count("test") >= 4
    charts = page.charts()
    assert len(charts) == 1 + 3 + 1 + 4 + 1 + 4
    names = [series["n"] for series in charts[0]["s"]]
    assert names == ["Average", "Classification, Top-1", "Detection, mAP50", "Segmentation, mIoU"]
    assert page.count("img") == 6
    assert page.count("svg") == len(charts) + 4 + 1  # a small curve in each card, and a heat map


def test_page_is_self_contained(run):
    page = report(run)
    for tag, attributes in page.tags:
        assert tag not in ("link", "iframe", "object", "base")
        for name in ("src", "href", "action", "srcset"):
            assert attributes.get(name, "data:").startswith("data:"), (tag, attributes)
    text = (run / "report.html").read_text()
    assert not re.search(r"https?:|@import|url\(", text)


def test_only_the_pages_own_script_may_run(run):
    import base64
    import hashlib

    page = report(run)
    policy = next(attributes["content"] for tag, attributes in page.tags if "http-equiv" in attributes)
    assert len(page.scripts) == page.count("script") == 1
    digest = base64.b64encode(hashlib.sha256(page.scripts[0].encode()).digest()).decode()
    assert f"script-src 'sha256-{digest}'" in policy and "default-src 'none'" in policy


def test_hostile_names_are_text(run):
    (run / "gallery" / "cls" / "captions.json").write_text(json.dumps({"00.jpg": HOSTILE}))
    folder = run / "gallery" / HOSTILE.replace("/", "_")
    folder.mkdir()
    (folder / "a.jpg").write_bytes((run / "gallery" / "cls" / "00.jpg").read_bytes())
    (run / "recipe.yaml").write_text(f"model: {{trunk: '{HOSTILE.replace(chr(39), '')}'}}\n")
    environment = {HOSTILE: HOSTILE, "git": {"revision": HOSTILE}, "gpus": 3}
    (run / "environment.json").write_text(json.dumps(environment))
    row = {"step": 301, "loss": {HOSTILE: 1.0}, "loss_parts": {HOSTILE: {HOSTILE: 2.0}},
           "surgery": {"tasks": [HOSTILE, "cls"], "weights": [1, 2], "cosine": [[1, 0.5], [0.5, 1]],
                       "grad_norm": {HOSTILE: 1.0}},
           "val": {HOSTILE: {HOSTILE: 0.5}, "average": 0.9}}
    with (run / "log.jsonl").open("a") as file:
        file.write(json.dumps(row) + "\n")
    page = report(run, title=HOSTILE, scores={HOSTILE: 0.25})
    assert page.count("script") == 1
    assert not any(name.startswith("on") for _, attributes in page.tags for name in attributes)
    assert page.count("img") == 7
    assert page.text.count("alert('x')") > 8


def test_curves_of_a_task_have_its_colour_everywhere(run):
    titles = {"Classification": "cls", "Detection": "det", "Segmentation": "seg"}
    series = [item for chart in report(run).charts() for item in chart["s"]]
    named = [item for item in series if item["n"].split(",")[0] in titles]
    assert len(named) == 9
    assert all(item["c"] == titles[item["n"].split(",")[0]] for item in named)


# ---- what is missing ----


def test_no_run_directory(tmp_path):
    with pytest.raises(UserError, match="no such run"):
        write_report(tmp_path / "absent", tmp_path / "report.html")
    assert not (tmp_path / "report.html").exists()


def test_an_empty_run_says_what_it_lacks(tmp_path):
    page = report(tmp_path)
    for word in ("log.jsonl", "evaluation", "gallery", "recipe.yaml", "environment.json"):
        assert word in page.text
    assert page.count("svg") == 0


@pytest.mark.parametrize("lost", ["log.jsonl", "gallery", "recipe.yaml", "environment.json", "weights"])
def test_one_part_missing(run, lost):
    (run / lost).rename(run / "elsewhere")
    page = report(run)
    assert ("No legend" if lost == "weights" else lost) in page.text


def test_broken_parts(run):
    log = (run / "log.jsonl").read_text()
    broken = 'nonsense\n[1]\n{"step": "x"}\n{"step": 1, "surgery": {"cosine": [[1], [2, 3]]}}\n'
    (run / "log.jsonl").write_text(broken + log + '{"step": 301, "lo')
    for name in ("recipe.yaml", "environment.json", "weights/last/config.json", "gallery/cls/captions.json"):
        (run / name).write_text("[1, 2")
    (run / "gallery" / "det" / "02.jpg").write_bytes(b"no picture")
    (run / "gallery" / "det" / "03.jpg").write_bytes(b"")
    page = report(run)
    assert "left out here: 5" in page.text
    assert page.count("img") == 6


def test_one_task_and_one_step(tmp_path):
    (tmp_path / "log.jsonl").write_text(json.dumps(
        {"step": 1, "loss": {"cls": 2.0}, "lr": 0.0, "val": {"cls": {"top1": 0.25}, "average": 0.25}}) + "\n")
    page = report(tmp_path)
    assert "0.250" in page.text and "Average" not in page.text and "Detection" not in page.text


def test_values_that_are_all_null(tmp_path):
    rows = [{"step": step, "loss": {"cls": None, "det": 1e300}, "grad_norm": 0.0, "lr": None,
             "val": {"cls": {"top1": None}, "average": None}} for step in range(1, 9)]
    (tmp_path / "log.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    page = report(tmp_path)
    assert "No value that could be drawn." in page.text and "Not finite in 8 of 8 steps." in page.text


def test_scores_without_a_log_come_from_scores_json(tmp_path):
    val = {"cls": {"top1": 0.123}, "det": {"mAP50": 0.456}, "average": 0.2895}
    scores = {"step": 7, "val": val, "best": {"step": 7, "val": val}}
    (tmp_path / "scores.json").write_text(json.dumps(scores))
    page = report(tmp_path)
    assert "0.123" in page.text and "0.456" in page.text and "step 7" in page.text


def test_best_evaluation_is_shown_and_the_last_is_told(run):
    row = {"step": 301, "val": {"cls": {"top1": 0.1}, "average": 0.1}}
    with (run / "log.jsonl").open("a") as file:
        file.write(json.dumps(row) + "\n")
    page = report(run)
    assert "at step 300. The last evaluation averaged 0.100." in page.text
    assert read_run(run).best.step == 300


# ---- size ----


def test_a_long_run_makes_a_small_page_soon(tmp_path):
    rng = np.random.default_rng(0)
    lines = [json.dumps(fake_record(step, 500, rng)) for step in range(1, 501)]
    with (tmp_path / "log.jsonl").open("w") as file:
        for step in range(1, 20_001):
            file.write(re.sub(r'"step": \d+', f'"step": {step}', lines[step % 500], count=1) + "\n")
    began = time.monotonic()
    report(tmp_path)
    assert time.monotonic() - began < 10
    assert (tmp_path / "report.html").stat().st_size < 1_000_000


def test_large_pictures_are_made_smaller(run):
    noise = np.random.default_rng(0).integers(0, 255, (1200, 2400, 3)).astype(np.uint8)
    cv2.imwrite(str(run / "gallery" / "seg" / "00.png"), noise)
    picture = next(item for item in read_run(run).gallery["seg"] if item.name == "00.png")
    assert picture.mime == "image/jpeg" and max(picture.shape) == 1280
    decoded = cv2.imdecode(np.frombuffer(picture.data, np.uint8), cv2.IMREAD_COLOR)
    assert decoded.shape[:2] == picture.shape


# ---- charts ----


@pytest.mark.parametrize(("low", "high"), [(0, 1), (0.3, 17.2), (-0.21, 0.37), (1e-6, 1e-4), (5, 5), (0, 0),
                                           (1e6, 1e6 + 1e-9), (-3e9, 4e12)])
def test_nice_ticks_cover_the_range(low, high):
    ticks = nice_ticks(low, high, 4)
    assert ticks[0] <= low and ticks[-1] >= high and 2 <= len(ticks) <= 8
    assert ticks == sorted(set(ticks))


@pytest.mark.parametrize(("low", "high"), [(1, 100), (0.3, 0.4), (2, 2), (1e-9, 1e7), (1, 10), (999, 1001)])
def test_log_ticks_cover_the_range(low, high):
    ticks = log_ticks(low, high)
    assert ticks[0] <= low * 1.001 and ticks[-1] >= high * 0.999 and 2 <= len(ticks) <= 9
    assert ticks == sorted(set(ticks))


@pytest.mark.parametrize(("value", "text"), [(0, "0"), (0.25, "0.25"), (2000, "2000"), (20000, "20k"),
                                             (5e-5, "5e−5"), (-0.2, "−0.2"), (1.5e6, "1.5e6")])
def test_format_number(value, text):
    assert format_number(value) == text


def test_moving_average():
    y = np.array([0.0, 3, 6, np.nan, 12])
    assert moving_average(y, 1) is y
    np.testing.assert_allclose(moving_average(y, 3), [1.5, 3, 4.5, np.nan, 12])
    np.testing.assert_allclose(moving_average(np.full(50, 7.0), 9), 7)
    np.testing.assert_allclose(moving_average(np.array([1e300, 0, 0, 1, 1, 1]), 3)[3:], [2 / 3, 1, 1])
    assert len(moving_average(np.ones(3), 99)) == 3


def test_gaps_break_a_curve():
    chart = line_chart("t", np.arange(5.0), [Series("s", "ink", np.array([0, 1, np.nan, 2, np.nan]))])
    line = re.search(r'class="line" d="([^"]*)"', chart)[1]
    assert line.count("M") == 2 and line.endswith("h0")


def test_a_spike_is_kept_and_does_not_press_the_curve_flat():
    y = np.ones(20_000)
    y[12_345] = 1e6
    chart = line_chart("t", np.arange(20_000.0), [Series("s", "ink", y, smooth=3)])
    raw = re.search(r'class="raw" d="([^"]*)"', chart)[1]
    assert " 0" in raw  # reaches the upper edge
    assert len(raw) < 20_000


def test_a_log_chart_leaves_out_what_is_not_positive():
    chart = line_chart("t", np.arange(4.0), [Series("s", "ink", np.array([0.0, -1, 1, 100]))], log=True)
    data = json.loads(re.search(r'data-chart="([^"]*)"', chart)[1].replace("&#34;", '"'))
    assert (data["y0"], data["y1"], data["log"]) == (1, 100, True)


def test_sparkline_wants_two_values():
    assert sparkline(np.array([1.0, np.nan]), "ink") == ""
    assert "svg" in sparkline(np.array([1.0, np.nan, 2.0]), "ink")


def test_columns_begin_where_they_are_first_logged(tmp_path):
    path = tmp_path / "log.jsonl"
    path.write_text('{"step": 1, "lr": 1}\n{"step": 2, "grad_norm": 3}\n{"step": 3, "lr": 2}\n')
    log = read_log(path)
    np.testing.assert_array_equal(log.get("train/lr"), [1, np.nan, 2])
    np.testing.assert_array_equal(log.get("train/grad_norm"), [np.nan, 3, np.nan])
    assert np.isnan(log.get("never")).all()


# ---- the entry point ----


def launch(*arguments) -> subprocess.CompletedProcess:
    return subprocess.run([sys.executable, str(ROOT / "launch" / "report.py"), *map(str, arguments)],
                          capture_output=True, text=True, check=False)


def test_entry_point(run, tmp_path):
    (tmp_path / "scores.json").write_text('{"top1": 0.777}')
    out = tmp_path / "deep" / "page.html"
    done = launch("--run", run, "--scores", tmp_path / "scores.json", "--out", out)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == str(out)
    assert "0.777" in out.read_text()


def test_entry_point_errors_are_one_line(run, tmp_path):
    for arguments in (("--run", tmp_path / "absent"), ("--run", run, "--scores", tmp_path / "absent.json")):
        done = launch(*arguments)
        assert done.returncode == 2 and done.stderr.startswith("error: ") and done.stderr.count("\n") == 1


def test_help_is_fast():
    began = time.monotonic()
    assert "--scores" in launch("--help").stdout
    assert time.monotonic() - began < 2
