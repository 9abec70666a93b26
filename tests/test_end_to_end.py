"""From drawn pictures to a scored submission and a finetuned model, by the command lines a user types, on two ranks.

Each that starts ranks runs once just as a user's would (`cold`).
"""

import json
import sys
from pathlib import Path

import pytest
import yaml
from entry_points import run

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "benchmarks"))

from resume import RECIPE  # noqa: E402

TINY = {
    **RECIPE,
    "data": {"workers": 1},
    "train": {"steps": 4, "precision": "fp32", "clip": 5.0, "eval_every": 0, "checkpoint_every": 2, "gallery": 2},
}
pytestmark = pytest.mark.multiprocess


def train(config, shards, out, *more, ranks=2, **options):
    where = ["--config", config, "--data.shards", shards, "--run", out]
    return run("deepspeed", ranks, "launch/train.py", *where, *more, **options)


@pytest.fixture(scope="module")
def work(tmp_path_factory):
    """A drawn download, its shards, and a trained run."""
    folder = tmp_path_factory.mktemp("end_to_end")
    run("shards/toy.py", "--out", folder / "raw", "--images", 13, "--seed", 5)
    run("shards/build.py", "--layout", "track1", "--raw", folder / "raw", "--out", folder / "shards")
    (folder / "tiny.yaml").write_text(yaml.safe_dump(TINY))
    train(folder / "tiny.yaml", folder / "shards", folder / "run", cold=True)
    return folder


def read_log(run_dir):
    return [json.loads(line) for line in (run_dir / "log.jsonl").read_text().splitlines()]


def test_the_run_directory_holds_what_is_promised(work):
    run_dir = work / "run"
    for name in ("recipe.yaml", "environment.json", "log.jsonl", "scores.json", "report.html"):
        assert (run_dir / name).is_file(), name
    for name in ("best", "last"):
        assert (run_dir / "weights" / name / "model.safetensors").is_file()
    checkpoints = sorted((run_dir / "checkpoints").glob("step-*"))
    assert [path.name for path in checkpoints] == ["step-00000002", "step-00000004"]
    log = read_log(run_dir)
    assert [row["step"] for row in log] == [1, 2, 3, 4]
    assert set(log[0]["loss"]) == {"cls", "det", "seg"}
    assert all(value > 0 for row in log for value in row["surgery"]["grad_norm"].values())
    assert set(log[-1]["val"]) == {"cls", "det", "seg", "average"} and "val" not in log[0]


def test_a_changed_recipe_does_not_resume(work):
    done = train(work / "tiny.yaml", work / "shards", work / "run", "--resume", "--optimizer.lr", "1", ok=False)
    assert "key 'optimizer.lr' was 0.0001 and is 1.0 now" in done.stderr + done.stdout
    done = train(work / "tiny.yaml", work / "shards", work / "run", ok=False)
    assert "holds a run already; --resume goes on with it" in done.stderr + done.stdout
    done = train(work / "tiny.yaml", work / "shards", work / "run", "--resume", ranks=1, ok=False)
    assert "written by 2 ranks, this run has 1" in done.stderr + done.stdout


def test_prediction_on_two_ranks_equals_one_and_scores(work):
    for ranks in (1, 2):
        run("deepspeed", ranks, "launch/predict.py", "--run", work / "run", "--shards", work / "shards",
            "--split", "test", "--out", work / f"submission{ranks}.json", "--threads", 1, cold=ranks == 2)  # fmt: skip
    one, two = (json.loads((work / f"submission{ranks}.json").read_text()) for ranks in (1, 2))
    assert {key: len(one[key]) for key in ("cls", "seg")} == {key: len(two[key]) for key in ("cls", "seg")}
    assert [list(item) for item in one["cls"]] == [list(item) for item in two["cls"]]
    truth = work / "raw" / "test_labels"
    given = ["--cls-gt", truth / "cls.txt", "--det-gt", truth / "det.json", "--seg-gt", truth / "seg"]
    scores = []
    for ranks in (1, 2):
        run("launch/evaluate.py", work / f"submission{ranks}.json", *given, "--json", work / f"scores{ranks}.json")
        scores.append(json.loads((work / f"scores{ranks}.json").read_text()))
    for key in ("top1", "mAP50", "mIoU", "mIoU_present", "average"):
        # Batches differ with the number of ranks, so sums differ in the last bits.
        assert scores[0][key] == pytest.approx(scores[1][key], abs=2e-3)


def test_the_score_in_training_is_the_score_of_the_submission(work):
    run("launch/predict.py", "--run", work / "run" / "weights" / "last", "--shards", work / "shards", "--split", "val",
        "--out", work / "val.json", "--threads", 1)  # fmt: skip
    data = work / "raw" / "track1_train_data"
    given = ["--cls-gt", data / "cls/val.txt", "--det-gt", data / "dec/val.json", "--seg-gt", data / "seg/label/val"]
    run("launch/evaluate.py", work / "val.json", *given, "--json", work / "val_scores.json")
    scored, trained = json.loads((work / "val_scores.json").read_text()), read_log(work / "run")[-1]["val"]
    assert scored["top1"] == pytest.approx(trained["cls"]["top1"], abs=1e-9)
    assert scored["mAP50"] == pytest.approx(trained["det"]["mAP50"], abs=1e-3)
    assert scored["mIoU"] == pytest.approx(trained["seg"]["mIoU"], abs=1e-3)


def test_finetuning_takes_other_classes_and_fewer_tasks(work):
    run("shards/toy.py", "--out", work / "raw_b", "--images", 12, "--seed", 9, "--tasks", "cls,det", "--cls-classes", 3,
        "--det-classes", 2)  # fmt: skip
    run("shards/build.py", "--layout", "track1", "--raw", work / "raw_b", "--out", work / "shards_b")
    run("launch/export.py", "--run", work / "run", "--out", work / "export", cold=True)
    done = run("deepspeed", 2, "launch/finetune.py", "--config", "launch/recipes/finetune.yaml", "--weights",
               work / "export", "--data.shards", work / "shards_b", "--run", work / "run_b", "--train.epochs", "1",
               "--tracking.wandb", "disabled", cold=True)  # fmt: skip
    text = done.stdout + done.stderr
    assert "made anew, for other classes or shapes: heads.cls.classifier" in text
    log = read_log(work / "run_b")
    assert set(log[-1]["val"]) == {"cls", "det", "average"}
    assert len(log) == 3, "12 images, 2 a rank of det on two ranks: three steps are a pass"
    run("launch/predict.py", "--run", work / "run_b", "--shards", work / "shards_b", "--split", "test", "--out",
        work / "submission_b.json", "--threads", 1)  # fmt: skip
    submission = json.loads((work / "submission_b.json").read_text())
    assert len(submission["cls"]) >= 12 and "seg" not in submission
    assert {next(iter(item.values())) for item in submission["cls"]} <= {0, 1, 2}


@pytest.mark.parametrize(("options", "line"), [
    (["--data.shards", "no-such-folder"], "no-such-folder"),
    (["--train.stesp", "5"], "did you mean 'train.steps'?"),
    (["--model.trunk", "vit_tinny"], "has no model 'vit_tinny'"),
    (["--deepspeed", "no-such.json"], "no-such.json"),
])  # fmt: skip
def test_a_mistake_gets_one_line_and_leaves_nothing(work, options, line):
    out = work / f"mistake_{abs(hash(line))}"
    config = ["--config", work / "tiny.yaml", "--data.shards", work / "shards"]
    done = run("launch/train.py", *config, "--run", out, *options, ok=False)
    assert done.returncode == 2
    assert line in done.stderr and done.stderr.strip().splitlines()[-1].startswith("error: ")
    assert not (out / "log.jsonl").exists()
