"""Recipe files: YAML that is none, that is dangerous, or that no run could follow."""

import pytest
from refusals import DEEP, FILES, HUGE, cut, parametrized, refusal, sparse

from ufo_ds.command_line import parse_recipe, read_recipe, write_recipe
from ufo_ds.recipe import Recipe
from ufo_ds.yaml_file import MAX_BYTES, read_mapping


def parse(path, *argv):
    return parse_recipe({"prog": "train.py"}, [], ["--config", str(path), *argv])


LAUGHS = "a: &a [x,x,x,x,x,x,x,x,x,x]\n" + "".join(
    f"{new}: &{new} [{','.join(['*' + old] * 10)}]\n" for old, new in zip("abcdefghi", "bcdefghij", strict=True)
)
MERGES = "a: &a {p: 1, q: 2}\n" + "".join(
    f"{new}: &{new} {{<<: [{','.join(['*' + old] * 10)}]}}\n" for old, new in zip("abcdefghi", "bcdefghij", strict=True)
)
TEXTS = {
    "a list": ("- train\n- tasks\n", "a recipe is a mapping"),
    "a word": ("train", "a recipe is a mapping"),
    "a number": ("5", "a recipe is a mapping"),
    "comments alone": ("# nothing\n", "a recipe is a mapping"),
    "two documents": ("train: {steps: 1}\n---\ntrain: {steps: 2}\n", "not valid YAML"),
    "open bracket": ("train: {steps: 5", "not valid YAML"),
    "tab": ("train:\n\tsteps: 5\n", "not valid YAML"),
    "unknown alias": ("train: *other\n", "not valid YAML"),
    "many laughs": (LAUGHS, "unfolds to more than 10000 values"),
    "many laughs in a free key": ("model:\n  trunk_kwargs:\n" + "".join(f"    {line}\n" for line in LAUGHS.split("\n")),
                                  "unfolds to more than 10000 values"),
    "many merges": (MERGES, "unfolds to more than 10000 values"),
    "alias of itself": ("train: &t {steps: 1, more: *t}\n", "an alias of what it stands in"),
    "list of itself": ("tasks: {names: &n [cls, *n]}\n", "an alias of what it stands in"),
    "python object": ("train: !!python/object/apply:os.system ['touch pwned']\n", "not valid YAML"),
    "python name": ("train: !!python/name:os.system\n", "not valid YAML"),
    "python module": ("seed: !!python/module:os\n", "not valid YAML"),
    "own tag": ("train: !mine {steps: 1}\n", "not valid YAML"),
    "odd int tag": ("seed: !!int x\n", "not valid YAML"),
    "odd bool tag": ("seed: !!bool x\n", "not valid YAML"),
    "odd time tag": ("seed: !!timestamp x\n", "not valid YAML"),
    "impossible date": ("seed: 2024-13-45\n", "not valid YAML"),
    "deep lists": ("[" * DEEP, "nested far too deeply"),
    "deep objects": ("{a: " * DEEP, "nested far too deeply"),
    "key twice": ("train: {steps: 1}\nseed: 1\ntrain: {clip: 1.0}\n", "line 3: key 'train' stands twice"),
    "key twice below": ("train: {steps: 1, clip: 0.5, steps: 2}\n", "key 'steps' stands twice"),
    "key a list": ("? [a, b]\n: 1\n", "not valid YAML"),
    "key a number": ("1: 2\n", "unknown key '1'"),
    "key null": ("~: 2\n", "unknown key 'None'"),
    "key empty": ("'': 2\n", "unknown key ''"),
    "key of the past": ("trian: {steps: 5}\n", "unknown key 'trian'; did you mean 'train'?"),
    "key in the wrong group": ("optimizer: {steps: 5}\n", "unknown key 'optimizer.steps'"),
    "key of another case": ("Train: {steps: 5}\n", "unknown key 'Train'"),
    "group a number": ("train: 5\n", "key 'train' is 5: a group of keys is expected"),
    "group null": ("train:\n", "key 'train' is None: a group"),
    "group a list": ("tasks: [cls]\n", "key 'tasks' is ['cls']: a group"),
    "group of a group a word": ("tasks: {cls: big}\n", "key 'tasks.cls' is 'big': a group"),
    "control sign": ("train: {steps: 1}\x07\n", "not valid YAML"),
}  # fmt: skip


@parametrized(TEXTS)
def test_a_file_that_is_no_recipe_is_named(tmp_path, case):
    text, fragment = case
    path = tmp_path / "recipe.yaml"
    path.write_text(text)
    refusal(lambda: parse(path), tmp_path, str(path), fragment)


@pytest.mark.parametrize("name", FILES)
def test_a_file_that_cannot_be_a_recipe_is_named(tmp_path, name):
    path = tmp_path / "recipe.yaml"
    path.write_text("train: {steps: 5}\n")
    FILES[name](path)
    refusal(lambda: parse(path), tmp_path, str(path))


def test_an_absurdly_large_file_is_not_read(tmp_path):
    sparse(tmp_path / "recipe.yaml", MAX_BYTES + 1)
    refusal(lambda: read_mapping(str(tmp_path / "recipe.yaml")), tmp_path, "larger than 1 MiB")


VALUES = {
    "seed: x": "'seed'",
    "seed: 1.5": "key 'seed'",
    "seed: null": "'seed'",
    "seed: -1": "key 'seed' is -1: must be 0 or more",
    "seed: [1]": "'seed'",
    f"seed: {HUGE}": "",
    "deepspeed: 3": "deepspeed",
    "deepspeed: [a]": "deepspeed",
    "deepspeed: null": "deepspeed",
    "train: {steps: many}": "key 'train.steps' is many: expected int",
    "train: {steps: 0}": "key 'train.steps' is 0: must be at least 1",
    "train: {steps: 1.5}": "train.steps",
    "train: {steps: true}": "train.steps",
    "train: {steps: 1000000000000000000000}": "key 'train.steps' is 1000000000000000000000: must be at most",
    "train: {epochs: .inf}": "key 'train.epochs' is inf: must be a finite number",
    "train: {epochs: .nan}": "key 'train.epochs' is nan: must be a finite number",
    "train: {clip: null}": "key 'train.clip' is null: give a value, or leave the key out",
    "train: {clip: -1}": "key 'train.clip' is -1",
    "train: {clip: .nan}": "key 'train.clip' is nan",
    "train: {precision: fp16}": "train.precision",
    "train: {exact_reduce: maybe}": "train.exact_reduce",
    "train: {accumulate: 0}": "key 'train.accumulate' is 0",
    "train: {eval_every: -1}": "key 'train.eval_every' is -1",
    "train: {eval_images: 0}": "key 'train.eval_images' is 0",
    "train: {keep_checkpoints: 0}": "key 'train.keep_checkpoints' is 0",
    "train: {threads: 0}": "key 'train.threads' is 0",
    "optimizer: {lr: 0}": "key 'optimizer.lr' is 0.0",
    "optimizer: {lr: .inf}": "key 'optimizer.lr' is inf: must be a finite number",
    "optimizer: {lr: high}": "key 'optimizer.lr' is high: expected float",
    "optimizer: {betas: 0.9}": "optimizer.betas",
    "optimizer: {betas: [0.9]}": "optimizer.betas",
    "optimizer: {betas: [0.9, 0.99, 0.999]}": "optimizer.betas",
    "optimizer: {betas: [0.9, 1.0]}": "key 'optimizer.betas' is (0.9, 1.0): must be two rates in [0, 1)",
    "optimizer: {betas: [-0.1, 0.9]}": "key 'optimizer.betas'",
    "optimizer: {layer_decay: 0}": "key 'optimizer.layer_decay'",
    "optimizer: {warmup_steps: -1}": "key 'optimizer.warmup_steps'",
    "optimizer: {weight_decay: -0.1}": "key 'optimizer.weight_decay'",
    "optimizer: {head_lr_scale: -1}": "key 'optimizer.head_lr_scale' is -1.0",
    "optimizer: {min_lr_scale: 2}": "key 'optimizer.min_lr_scale' is 2.0",
    "data: {workers: -1}": "key 'data.workers' is -1",
    "data: {window: 0}": "key 'data.window' is 0",
    "data: {shards: [a]}": "data.shards",
    "data: {remote: disk}": "data.remote",
    "data: {cache: ''}": "key 'data.cache' is ''",
    "data: {cache_gib: 0}": "key 'data.cache_gib' is 0.0",
    "data: {cache_gib: .inf}": "key 'data.cache_gib' is inf",
    "data: {cache_gib: 1.0e+300}": "key 'data.cache_gib' is 1e+300",
    "model: {depths: 0}": "key 'model.depths' is 0",
    "model: {drop_path: 1}": "key 'model.drop_path' is 1",
    "model: {checkpointing: all}": "model.checkpointing",
    "model: {trunk: 5}": "model.trunk",
    "model: {trunk_kwargs: [1]}": "model.trunk_kwargs",
    "model: {trunk_kwargs: {depth: .inf}}": "key 'model.trunk_kwargs.depth' is inf",
    "model: {pretrained: sometimes}": "model.pretrained",
    "tasks: {names: []}": "key 'tasks.names' is []",
    "tasks: {names: cls}": "tasks.names",
    "tasks: {names: [dec]}": "tasks.names",
    "tasks: {names: [cls, cls]}": "key 'tasks.names'",
    "tasks: {cls: {batch: 0}}": "key 'tasks.cls.batch' is 0",
    "tasks: {cls: {weight: 0}}": "key 'tasks.cls.weight' is 0",
    "tasks: {cls: {weight: .inf}}": "key 'tasks.cls.weight' is inf",
    "tasks: {cls: {size: 448}}": "tasks.cls.size",
    "tasks: {cls: {size: [448]}}": "tasks.cls.size",
    "tasks: {cls: {size: [448, 0]}}": "key 'tasks.cls.size' is (448, 0): must be (height, width) of 16 to 16384",
    "tasks: {cls: {size: [-448, 448]}}": "key 'tasks.cls.size'",
    "tasks: {cls: {size: [1000000, 1000000]}}": "key 'tasks.cls.size' is (1000000, 1000000)",
    "tasks: {cls: {crop_scale: [0.9, 0.1]}}": "key 'tasks.cls.crop_scale'",
    "tasks: {cls: {crop_scale: [0, 1]}}": "key 'tasks.cls.crop_scale'",
    "tasks: {cls: {hflip: 2}}": "key 'tasks.cls.hflip'",
    "tasks: {cls: {label_smoothing: 1}}": "key 'tasks.cls.label_smoothing'",
    "tasks: {cls: {auto_augment: cutout}}": "key 'tasks.cls.auto_augment'",
    "tasks: {cls: {auto_augment_magnitude: 31}}": "key 'tasks.cls.auto_augment_magnitude' is 31: must be in 0..30",
    "tasks: {cls: {random_erasing: 1.5}}": "key 'tasks.cls.random_erasing'",
    "tasks: {cls: {mixup: -1}}": "key 'tasks.cls.mixup'",
    "tasks: {cls: {cutmix: 1, batch: 1}}": "key 'tasks.cls.cutmix' is 1.0: must be 0 with tasks.cls.batch 1",
    "tasks: {cls: {hue_jitter: 0.6}}": "key 'tasks.cls.hue_jitter'",
    "tasks: {det: {levels: []}}": "key 'tasks.det.levels'",
    "tasks: {det: {levels: [8, 32]}}": "key 'tasks.det.levels'",
    "tasks: {det: {levels: [3, 6]}}": "key 'tasks.det.levels'",
    "tasks: {det: {nms: 0}}": "key 'tasks.det.nms'",
    "tasks: {det: {mosaic: 1.5}}": "key 'tasks.det.mosaic' is 1.5",
    "tasks: {det: {copy_paste: -0.1}}": "key 'tasks.det.copy_paste'",
    "tasks: {det: {copy_paste_max: 0}}": "key 'tasks.det.copy_paste_max' is 0",
    "tasks: {det: {crop_to_box: 2}}": "key 'tasks.det.crop_to_box'",
    "train: {close_augment: 1.5}": "key 'train.close_augment'",
    "tasks: {det: {width: 0}}": "key 'tasks.det.width' is 0",
    "tasks: {det: {min_box: -1}}": "key 'tasks.det.min_box'",
    "tasks: {det: {decoder: yolo}}": "tasks.det.decoder",
    "tasks: {det: {scale_jitter: [0.5, .inf]}}": "key 'tasks.det.scale_jitter' is inf",
    "tasks: {seg: {aux_weight: -1}}": "key 'tasks.seg.aux_weight'",
    "tasks: {seg: {eval_size: [8, 8]}}": "key 'tasks.seg.eval_size'",
    "tasks: {seg: {jitter_prob: 2}}": "key 'tasks.seg.jitter_prob'",
    "tasks: {seg: {rare_crops: 2}}": "key 'tasks.seg.rare_crops'",
    "tasks: {seg: {cat_max_ratio: 0}}": "key 'tasks.seg.cat_max_ratio'",
    "surgery: {task_clip: -1}": "key 'surgery.task_clip'",
    "tasks: {seg: {width: 1000000}}": "key 'tasks.seg.width'",
    "surgery: {method: best}": "surgery.method",
    "surgery: {every: -1}": "key 'surgery.every'",
    "surgery: {gradvac_beta: 2}": "key 'surgery.gradvac_beta'",
    "surgery: {static_weights: [1]}": "surgery.static_weights",
    "surgery: {static_weights: {cls: .nan}}": "key 'surgery.static_weights.cls' is nan",
    "surgery: {famo_lr: 0}": "key 'surgery.famo_lr'",
    "tracking: {wandb: on}": "tracking.wandb",
}


@pytest.mark.parametrize("text", VALUES, ids=[text[:50] for text in VALUES])
def test_a_value_that_no_run_could_follow_is_named(tmp_path, text):
    path = tmp_path / "recipe.yaml"
    path.write_text(text + "\n")
    refusal(lambda: read_recipe(path), tmp_path, str(path), VALUES[text])


@pytest.mark.parametrize("text", list(VALUES)[::12])
def test_a_file_of_the_command_line_is_checked_alike(tmp_path, text):
    path = tmp_path / "recipe.yaml"
    path.write_text(text + "\n")
    refusal(lambda: parse(path), tmp_path, str(path), VALUES[text])


@pytest.mark.parametrize(
    "argv",
    [
        ["--seed"],
        ["--seed", "x"],
        ["--train.steps", "[1]"],
        ["--tasks.cls.size", "[1"],
        ["--nonsense"],
        ["--train", "5"],
        ["--tasks.cls", "null"],
        ["--config"],
        ["--model.trunk_kwargs", "x"],
        ["--tasks.cls.size.0", "5"],
        ["left", "over"],
        ["--config", ""],
    ],
    ids=" ".join,
)
def test_an_option_that_no_run_could_follow_is_named(tmp_path, argv):
    (tmp_path / "recipe.yaml").write_text("train: {steps: 5}\n")
    refusal(lambda: parse(tmp_path / "recipe.yaml", *argv), tmp_path)


def test_anchors_in_moderation_are_no_mistake(tmp_path):
    path = tmp_path / "recipe.yaml"
    path.write_text("tasks:\n  cls: &one {batch: 4, hflip: 0.5}\n  seg: {<<: *one, batch: 2}\n")
    recipe, _ = parse(path)
    assert (recipe.tasks.seg.batch, recipe.tasks.seg.hflip, recipe.tasks.cls.batch) == (2, 0.5, 4)


def test_a_run_whose_recipe_breaks_off_is_named(tmp_path):
    path = tmp_path / "recipe.yaml"
    write_recipe(Recipe(), path)
    assert read_recipe(path) == Recipe()
    cut(0.61)(path)
    text = path.read_text()
    path.write_text(text[: text.rindex(":")])
    refusal(lambda: read_recipe(path), tmp_path, str(path))
