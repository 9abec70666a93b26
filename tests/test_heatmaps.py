import html
import json
import re
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from ufo_ds.columns import flatten
from ufo_ds.heatmap_picture import (
    AGREEMENT,
    CONFLICT,
    NEUTRAL,
    BinnedMeans,
    ConflictHistory,
    cell_colours,
    colour_limit,
    heatmap,
)
from ufo_ds.report import write_report
from ufo_ds.report.heatmap import conflict_maps
from ufo_ds.report.record import read_log

TASKS = ["cls", "det", "seg"]
PAIRS = ["cls-det", "cls-seg", "det-seg"]
BLOCKS = ["stem", *(f"block {i}" for i in range(12)), "norm"]
WHITE = (255, 255, 255)


def fake_step(step: int, cosine: float | None, blocks: bool = False, **more) -> dict:
    """A step whose first pair has this cosine, the others its negative; None: nothing was measured."""
    surgery = {"tasks": TASKS, "weights": [1.0, 1.1, 0.9], **more}
    if cosine is not None:
        matrix = [[1, cosine, -cosine], [cosine, 1, -cosine], [-cosine, -cosine, 1]]
        surgery |= {"grad_norm": {"cls": 0.5, "det": 4.0, "seg": 1.0}, "norm_ratio": 8.0, "cosine": matrix,
                    "conflicts": 1 / 3}
    if blocks:
        surgery["blocks"] = {"names": BLOCKS, "pairs": PAIRS, "conflicts": [0.5] * 14,
                             "cosine": [[0.01 * i, -0.02 * i, None] for i in range(14)],
                             "grad_norm": {name: [1.0] * 14 for name in TASKS}}
    return {"step": step, "loss": {"cls": 1.0, "det": 2.0, "seg": 3.0}, "surgery": surgery}


def write_log(folder: Path, rows: list[dict]) -> Path:
    (folder / "log.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder / "log.jsonl"


def page_of(folder: Path, rows: list[dict]) -> str:
    write_log(folder, rows)
    return write_report(folder, folder / "report.html").read_text()


def maps_of(folder: Path, rows: list[dict]) -> list[str]:
    return [str(figure) for figure in conflict_maps(read_log(write_log(folder, rows)))]


def cells(figure: str) -> list[dict[str, str]]:
    """The coloured cells of a map, with the text of each."""
    found = re.findall(r'<rect ([^>]*fill-opacity[^>]*)><title>([^<]*)</title>', figure)
    return [dict(re.findall(r'([\w-]+)="([^"]*)"', attributes), title=title) for attributes, title in found]


# ---- the report ----


def test_a_cell_has_the_colour_of_its_cosine(tmp_path):
    rows = [fake_step(step, -0.5 if step <= 5 else 0.25) for step in range(1, 11)]
    (figure,) = maps_of(tmp_path, rows)
    drawn = cells(figure)
    assert len(drawn) == 3 * 10
    assert drawn[0]["title"] == "cls / det, step 1: −0.5"
    assert (drawn[0]["class"], drawn[0]["fill-opacity"], drawn[0]["y"]) == ("below", "1", "0")
    assert (drawn[9]["class"], drawn[9]["fill-opacity"]) == ("above", "0.5")  # half of the scale's 0.5
    assert (drawn[10]["class"], drawn[10]["y"], drawn[10]["title"]) == ("above", "1", "cls / seg, step 1: 0.5")
    assert "<b>−0.5</b>" in figure and "<b>0.5</b>" in figure
    page = page_of(tmp_path, rows)
    for mode in ("#c43a14", "#ff7653"):  # the light page and the dark one
        assert f"--conflict: {mode}" in page
    assert ".heat .below { fill: var(--conflict); }" in page


def test_a_long_log_is_binned_to_means(tmp_path):
    (figure,) = maps_of(tmp_path, [fake_step(step, -0.2 if step % 2 else 0.1) for step in range(1, 2001)])
    drawn = [cell for cell in cells(figure) if cell["y"] == "0"]
    assert len(drawn) == 80
    assert drawn[1]["title"] == "cls / det, steps 26 to 50: −0.044"
    assert {cell["title"].split()[-1] for cell in drawn} == {"−0.056", "−0.044"}
    assert int(drawn[-1]["x"]) + int(drawn[-1]["width"]) == 2000


def test_depth_map_has_a_row_for_each_block_of_each_pair(tmp_path):
    rows = [fake_step(step, 0.1, blocks=step % 4 == 0) for step in range(1, 41)]
    time, depth = maps_of(tmp_path, rows)
    assert "Conflict over time" in time and "Conflict over depth" in depth
    panels = depth.split('<div class="heat')[1:]
    assert len(panels) == 3
    for panel, pair in zip(panels, ("cls / det", "cls / seg", "det / seg"), strict=True):
        assert f"<h5>{pair}</h5>" in panel and f'viewBox="0 0 2000 {len(BLOCKS)}"' in panel
        assert re.findall(r"<span>([^<]*)</span>", panel.split("<svg")[0]) == BLOCKS
    first = [cell for cell in cells(panels[1]) if cell["y"] == "13"]
    assert [cell["title"] for cell in first][:1] == ["norm, steps 2 to 5: −0.26"]
    assert len(first) == 10 and {cell["class"] for cell in first} == {"below"}
    assert cells(panels[2]) == [] and "<rect" not in panels[2]  # all null


def test_what_was_not_measured_stays_bare(tmp_path):
    (figure,) = maps_of(tmp_path, [fake_step(step, None if 30 < step <= 60 else -0.5) for step in range(1, 81)])
    grounds = re.findall(r'<rect class="zero" x="(\d+)" y="0" width="(\d+)"', figure)
    assert len(grounds) == 2
    end, start = sum(map(int, grounds[0])), int(grounds[1][0])
    assert 700 < end < 780 and 1460 < start < 1540
    assert len(cells(figure)) == 3 * 50


def test_a_rare_gram_matrix_is_joined_by_lines(tmp_path):
    page = page_of(tmp_path, [fake_step(step, 0.1 if step % 5 == 0 else None) for step in range(1, 1001)])
    for title in ("Cosine between task gradients", "Conflicting pairs", "Gradient norm of each task",
                  "Largest gradient norm over the smallest"):
        lines = re.findall(r'class="line" d="([^"]*)"', page.split(f"<h4>{title}</h4>")[1].split("</figure>")[0])
        assert lines and all(line.count("M") == 1 and line.count("L") == 199 for line in lines), title
    assert "of the 200 steps that were measured had a conflict" in page
    (figure,) = maps_of(tmp_path, [fake_step(step, 0.1 if step % 5 == 0 else None) for step in range(1, 201)])
    drawn = [cell for cell in cells(figure) if cell["y"] == "0"]
    assert len(drawn) == 40  # a column a measurement, not a comb
    assert all(int(a["x"]) + int(a["width"]) == int(b["x"]) for a, b in pairwise(drawn))


def test_a_line_breaks_at_a_long_hole(tmp_path):
    page = page_of(tmp_path, [fake_step(step, 0.1 if step % 5 == 0 and not 100 < step < 200 else None)
                              for step in range(1, 301)])
    part = page.split("<h4>Conflicting pairs</h4>")[1]
    assert re.search(r'class="line" d="([^"]*)"', part)[1].count("M") == 2


@pytest.mark.parametrize("measured", [[], [7]])
def test_a_gram_matrix_on_one_step_or_none(tmp_path, measured):
    rows = [fake_step(step, 0.1 if step in measured else None) for step in range(1, 41)]
    assert len(maps_of(tmp_path, rows)) == len(measured)
    page = page_of(tmp_path, rows)
    assert "Weight of each task" in page
    assert ("Cosine between task gradients" in page) == ("Conflict over time" in page) == bool(measured)


def test_failed_solvers_are_counted(tmp_path):
    rows = [fake_step(step, 0.1, **({"solver_failed": True} if step in (3, 4) else {})) for step in range(1, 11)]
    rows[5]["surgery"]["norm_ratio"] = None
    page = page_of(tmp_path, rows)
    assert "The solver failed in 2 of 10 steps; they took the plain sum." in page
    assert "Median 8." in page


def test_hostile_blocks_are_text_and_broken_ones_are_left_out(tmp_path):
    hostile = "<script>alert(1)</script>"
    rows = [fake_step(step, 0.1, blocks=True) for step in range(1, 5)]
    rows[1]["surgery"]["blocks"]["names"] = [hostile, *BLOCKS[1:]]
    rows[2]["surgery"]["blocks"]["cosine"] = [[1]]
    rows[3]["surgery"]["blocks"] = None
    page = page_of(tmp_path, rows)
    assert hostile not in page and html.escape(hostile) in page
    assert "left out here: 1" in page


def test_blocks_are_kept_in_single_precision(tmp_path):
    log = read_log(write_log(tmp_path, [fake_step(step, 0.1, blocks=True) for step in range(1, 4)]))
    blocks = log.under("surgery/blocks/")
    assert len(blocks) == 14 * (3 + 1)
    assert {column.dtype for column in blocks.values()} == {np.dtype(np.float32)}
    assert log.get("surgery/cosine/cls-det").dtype == np.float64


# ---- the pictures for wandb ----


def test_colours_run_from_conflict_over_neutral_to_agreement():
    colours = cell_colours(np.array([-0.5, -0.25, 0.0, 0.5, 3.0, np.nan]), 0.5)
    assert [tuple(colour) for colour in colours[[0, 2, 3, 4, 5]].tolist()] == [
        CONFLICT, NEUTRAL, AGREEMENT, AGREEMENT, WHITE]
    np.testing.assert_allclose(colours[1], (np.array(CONFLICT) + NEUTRAL) / 2, atol=1)


def test_colour_limit_is_round_and_covers_nearly_all():
    assert colour_limit([np.array([0.01, -0.13])]) == 0.2
    assert colour_limit([np.r_[np.full(1000, 0.04), 0.9]]) == 0.05
    assert colour_limit([np.array([np.nan])]) == colour_limit([]) == 1.0
    assert colour_limit([np.array([-7.0])]) == 1.0


def test_a_history_halves_its_resolution_when_full():
    history = BinnedMeans(columns=8)
    for step in range(1, 101):
        history.add(step, {"a": float(step), "b": np.nan if step < 50 else 1.0})
    means = history.means()
    assert history.span == (1, 100)
    np.testing.assert_allclose(means["a"], [8.5, 24.5, 40.5, 56.5, 72.5, 88.5, 98.5])  # 16 each
    np.testing.assert_array_equal(means["b"], [np.nan, np.nan, np.nan, 1, 1, 1, 1])
    assert all(total.shape == (2, 8) for total in history._totals.values())


def test_history_pictures():
    history = ConflictHistory()
    assert history.pictures() == {}
    history.add(1, flatten(fake_step(1, None)))
    assert history.pictures() == {}
    history.add(2, flatten(fake_step(2, -0.5)))
    assert list(history.pictures()) == ["conflicts_over_time"]
    history.add(3, flatten(fake_step(3, -0.5, blocks=True)))
    drawn = history.pictures()
    assert list(drawn) == ["conflicts_over_time", "conflicts_over_depth"]
    for image in drawn.values():
        assert image.dtype == np.uint8 and image.shape[2] == 3
    time = drawn["conflicts_over_time"]
    right = time[:, -100].tolist()
    assert right.count(list(CONFLICT)) == 27 and right.count(list(AGREEMENT)) == 2 * 27
    assert len(drawn["conflicts_over_depth"]) > 3 * 14 * 18


def test_heatmap_leaves_unmeasured_cells_bare():
    image = heatmap("title", {"": {"a": np.array([-1.0, np.nan])}}, (1, 2), row_height=40)
    row = (image == CONFLICT).all(axis=-1).sum(axis=1)
    assert row.max() == 360 and (image[row.argmax(), -300:] == WHITE).all()
