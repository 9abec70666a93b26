"""Weighted box fusion against a slow reading of the paper, and what must hold of any fusion."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ufo_ds.tasks.detection.boxes import Found, box_iou, fuse, suppress


def found(*rows):
    """Rows of (x1, y1, x2, y2, score, label)."""
    table = np.array(rows, np.float64).reshape(-1, 6)
    return Found(table[:, :4], table[:, 4], table[:, 5].astype(np.int64))


def overlap(a, b):
    width, height = min(a[2], b[2]) - max(a[0], b[0]), min(a[3], b[3]) - max(a[1], b[1])
    shared = max(width, 0) * max(height, 0)
    union = (a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - shared
    return shared / union if union > 0 else 0.0


def slow_fusion(views, iou):
    """The steps of section 3 of arXiv 1910.13302, one box at a time: [(box, score, label, members)]."""
    boxes = [(float(view.scores[i]), tuple(map(float, view.boxes[i])), int(view.labels[i]))
             for view in views for i in range(len(view))]  # fmt: skip
    boxes.sort(key=lambda item: (-item[0], item[2], item[1][3], item[1][2], item[1][1], item[1][0]))
    clusters = []
    for score, box, label in boxes:
        best, best_overlap = None, iou
        for cluster in clusters:
            if cluster["label"] == label and overlap(cluster["box"], box) > best_overlap:
                best, best_overlap = cluster, overlap(cluster["box"], box)
        if best is None:
            best = {"label": label, "members": []}
            clusters.append(best)
        best["members"].append((score, box))
        total = sum(s for s, _ in best["members"])
        best["box"] = [sum(s * b[i] for s, b in best["members"]) / total if total else box[i] for i in range(4)]
    results = []
    for cluster in clusters:
        scores = [s for s, _ in cluster["members"]]
        score = sum(scores) / len(scores) * min(len(scores), len(views)) / len(views)
        results.append((cluster["box"], score, cluster["label"], [b for _, b in cluster["members"]]))
    return results


@st.composite
def pictures(draw):
    """Views of one picture: the boxes of a few objects, each found by some views, a little off."""
    generator = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    objects = generator.uniform(0, 60, (draw(st.integers(0, 4)), 4))
    objects[:, 2:] = objects[:, :2] + generator.uniform(5, 40, (len(objects), 2))
    labels = generator.integers(0, 2, len(objects))
    views = []
    for _ in range(draw(st.integers(1, 4))):
        seen = np.flatnonzero(generator.uniform(size=len(objects)) < 0.8).repeat(draw(st.integers(1, 2)))
        boxes = objects[seen] + generator.normal(0, 2, (len(seen), 4))
        views.append(Found(boxes, generator.integers(0, 101, len(seen)) / 100, labels[seen]))
    return views


@settings(max_examples=150, deadline=None)
@given(pictures(), st.sampled_from([0.3, 0.55, 0.8]))
def test_fusion_is_the_papers(views, iou):
    fused, expected = fuse(views, iou), slow_fusion(views, iou)
    rows = np.array([[*fused.boxes[i], fused.scores[i], fused.labels[i]] for i in range(len(fused))]).reshape(-1, 6)
    wanted = np.array([[*box, score, label] for box, score, label, _ in expected]).reshape(-1, 6)
    order = [np.lexsort(np.round(table, 6).T) for table in (rows, wanted)]
    np.testing.assert_allclose(rows[order[0]], wanted[order[1]], atol=1e-9)
    assert (np.diff(fused.scores) <= 0).all() and ((fused.scores >= 0) & (fused.scores <= 1)).all()
    for box, _, _, members in expected:  # so the fast one's boxes, too
        assert (np.min(members, 0) - 1e-9 <= box).all() and (box <= np.max(members, 0) + 1e-9).all()


@settings(max_examples=60, deadline=None)
@given(pictures(), st.randoms())
def test_the_order_of_views_and_boxes_changes_nothing(views, random):
    fused = fuse(views, 0.55)
    shuffled = [view[np.array(random.sample(range(len(view)), len(view)), np.int64)] for view in views]
    random.shuffle(shuffled)
    again = fuse(shuffled, 0.55)
    assert np.array_equal(fused.boxes, again.boxes) and np.array_equal(fused.scores, again.scores)
    assert np.array_equal(fused.labels, again.labels)


def test_known_cases():
    one = found((0, 0, 10, 10, 0.9, 3), (50, 50, 60, 60, 0.4, 3))
    two = found((2, 0, 12, 10, 0.3, 3), (0, 0, 10, 10, 0.8, 5))
    fused = fuse([one, two], 0.5)
    assert fused.labels.tolist() == [3, 5, 3]
    np.testing.assert_allclose(fused.boxes[0], [0.5, 0, 10.5, 10])  # (0.9 * 0 + 0.3 * 2) / 1.2
    np.testing.assert_allclose(fused.scores, [0.6, 0.4, 0.2])  # those of one view alone count half
    agreed = fuse([one, one, one], 0.5)
    np.testing.assert_allclose(agreed.boxes, one.boxes)
    np.testing.assert_allclose(agreed.scores, one.scores)


def test_no_boxes_at_all():
    for together in (fuse, suppress):
        empty = together([found(), found()], 0.5)
        assert empty.boxes.shape == (0, 4) and len(empty) == 0


def test_suppression_keeps_the_likeliest_of_each_class():
    kept = suppress([found((0, 0, 10, 10, 0.5, 1)), found((1, 0, 11, 10, 0.9, 1), (0, 0, 10, 10, 0.2, 2))], 0.5)
    assert kept.scores.tolist() == [0.9, 0.2] and kept.labels.tolist() == [1, 2]
    assert kept.boxes[0].tolist() == [1, 0, 11, 10]


def test_iou_of_boxes_without_area():
    boxes = np.array([[0, 0, 10, 10], [5, 5, 5, 5], [0, 5, 10, 15.0]])
    assert box_iou(boxes, boxes)[1].tolist() == [0, 0, 0]
    assert box_iou(boxes, boxes)[0, 2] == pytest.approx(1 / 3)
