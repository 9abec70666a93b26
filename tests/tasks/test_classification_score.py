"""Top-1, its merge over ranks, and the section `cls`."""

import math
import pickle
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ufo_ds.data.schema import ClassInfo, RawSample, TaskMeta
from ufo_ds.errors import UserError
from ufo_ds.tasks.classification.score import (
    AccuracyMetric,
    ClassPrediction,
    read_section,
    read_truth,
    truth_of,
    write_section,
)

PAIRS = st.lists(st.tuples(st.integers(0, 5), st.integers(0, 5), st.integers(0, 2)), max_size=30)


def metric_of(pairs):
    metric = AccuracyMetric()
    metric.update([ClassPrediction("x", found) for found, _ in pairs], [truth for _, truth in pairs])
    return metric


@given(PAIRS)
def test_any_split_over_ranks_gives_the_whole(pairs):
    whole = metric_of([pair[:2] for pair in pairs])
    ranks = [metric_of([pair[:2] for pair in pairs if pair[2] == rank]) for rank in range(3)]
    merged = AccuracyMetric()
    merged.merge([pickle.loads(pickle.dumps(rank.state())) for rank in ranks])
    assert merged.compute() == whole.compute()
    assert merged.per_class() == whole.per_class()
    assert whole.compute()["top1"] == sum(found == truth for found, truth, _ in pairs) / max(len(pairs), 1)


def test_classes():
    metric = metric_of([(1, 1), (2, 1), (0, 0), (9, 3)])
    assert metric.compute() == {"top1": 0.5}
    assert metric.per_class() == {0: 1.0, 1: 0.5, 3: 0.0}


def test_section_round_trip_in_both_forms():
    predictions = [ClassPrediction("b.jpg", 3, 0.5), ClassPrediction("a.jpg", 0)]
    assert write_section(predictions) == [{"a.jpg": 0}, {"b.jpg": 3}]
    assert write_section(predictions, as_objects=True) == {"a.jpg": 0, "b.jpg": 3}
    for as_objects in (False, True):
        read = read_section(write_section(predictions, as_objects), Path("s.json"))
        assert {name: item.label for name, item in read.items()} == {"a.jpg": 0, "b.jpg": 3}
        assert math.isnan(read["a.jpg"].confidence)


def test_list_of_labels(tmp_path):
    path = tmp_path / "cls.txt"
    path.write_bytes("\ufeff00001.jpg 0\r\n\r\nmy car.jpg\t12\n00001.jpg 0\n".encode())
    assert read_truth(path) == {"00001.jpg": 0, "my car.jpg": 12}


@pytest.mark.parametrize(("text", "message"), [
    ("a.jpg\n", "line 1: 'a.jpg'"), ("\na.jpg x\n", "line 2: 'x' is no class id"),
    ("a.jpg -1", "'-1' is no class id"),
    ("a.jpg 1\na.jpg 2\n", "line 2: 'a.jpg' has stood before"), ("\n", "holds no label")])
def test_broken_lists_are_named(tmp_path, text, message):
    (tmp_path / "cls.txt").write_text(text)
    with pytest.raises(UserError, match=message):
        read_truth(tmp_path / "cls.txt")


def test_truth_of_a_sample():
    meta = TaskMeta("cls", "track1", [ClassInfo(2, "two"), ClassInfo(5, "five")], {})
    assert truth_of(RawSample("a.jpg", {"jpg": b"", "cls": b"5"}), meta) == 5
    for members in ({"jpg": b""}, {"cls": b"4"}, {"cls": b"five"}):
        with pytest.raises(UserError):
            truth_of(RawSample("a.jpg", members), meta)
    with pytest.raises(UserError, match="cannot be read"):
        read_truth(Path("absent.txt"))
