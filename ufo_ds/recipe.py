"""The one typed schema of a run. Every key of a recipe is a field here, with its unit; nothing here needs torch."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal


@dataclass
class ModelConfig:
    """The shared trunk."""

    trunk: str = "vit_base_patch16_224"
    """Name of any timm vision transformer (`timm.list_models("*vit*")`, `eva02*`, ...)."""
    trunk_kwargs: dict[str, Any] = field(default_factory=dict)
    """Further arguments of timm's `create_model`, e.g. `{embed_dim: 128, depth: 4, num_heads: 4}`."""
    pretrained: bool = True
    """Start the trunk from timm's published weights."""
    pretrained_file: str | None = None
    """A local file with those weights (safetensors, or a `weights_only` pickle), instead of the download."""
    depths: int = 4
    """How many depths of the trunk the heads see, evenly spaced, the last block among them."""
    drop_path: float = 0.0
    """Stochastic depth rate of the last block (linear from 0 in the first)."""
    checkpointing: Literal["none", "torch", "fairscale", "deepspeed"] = "torch"
    """Activation checkpointing of each block: `torch` (non-reentrant), `fairscale` (activations offloaded to the
    CPU), `deepspeed` (its own, for partitioned activations), or `none`."""


@dataclass
class ClsConfig:
    """Fine-grained classification."""

    batch: int = 16
    """Images a micro-batch on each rank; a step takes `train.accumulate` of them."""
    weight: float = 1.0
    """Factor on the loss."""
    size: tuple[int, int] = (448, 448)
    """(height, width) of the network's input in pixels."""
    crop_scale: tuple[float, float] = (0.4, 1.0)
    """Share of the image's area that a training crop covers (smallest, largest)."""
    hflip: float = 0.5
    """Probability of mirroring a training image."""
    color_jitter: float = 0.3
    """Strength of brightness, contrast and saturation jitter, 0..1."""
    balanced: bool = True
    """Draw every class equally often."""
    label_smoothing: float = 0.1
    """Probability mass spread evenly over all classes."""
    dropout: float = 0.0
    """Dropout before the classifier."""


@dataclass
class DetConfig:
    """Traffic-sign detection."""

    batch: int = 2
    """Images a micro-batch on each rank; a step takes `train.accumulate` of them."""
    weight: float = 0.2
    """Factor on the loss. A set-prediction loss starts near 18 where the others start below 3."""
    size: tuple[int, int] = (1280, 1280)
    """(height, width) of the canvas that an image is fitted into, in pixels."""
    scale_jitter: tuple[float, float] = (0.6, 1.6)
    """Factor on the fitted size in training (smallest, largest)."""
    hflip: float = 0.0
    """Probability of mirroring. 0: a mirrored sign may be another sign."""
    color_jitter: float = 0.3
    """Strength of brightness, contrast and saturation jitter, 0..1."""
    min_visible: float = 0.3
    """A box cut by a crop stays a target if at least this share of its area is left."""
    min_box: float = 1.0
    """Boxes narrower or lower than this on the canvas, in pixels, are no targets."""
    decoder: Literal["d_fine", "rt_detr_v2"] = "d_fine"
    """Which transformers decoder, with its matching and losses."""
    decoder_kwargs: dict[str, Any] = field(default_factory=dict)
    """Further fields of that decoder's transformers config, e.g. `{decoder_layers: 3, num_queries: 100}`."""
    decoder_weights: str | None = None
    """A local safetensors file of a published checkpoint of that decoder; what fits in name and shape is taken."""
    norm: Literal["group", "frozen"] = "group"
    """What replaces the BatchNorm of the decoder's neck: `group` (GroupNorm) to train from scratch, `frozen` to keep
    the statistics of `decoder_weights`. BatchNorm itself is noise at a few images a rank, and differs by rank."""
    levels: tuple[int, ...] = (8, 16, 32)
    """Strides of the pyramid that the decoder sees, each twice the one before."""
    width: int = 256
    """Channels of the pyramid and of the decoder."""
    nms: float | None = 0.7
    """Of two predicted boxes of one class with a larger IoU than this, only the likelier counts; null: both do. A
    set-prediction head needs it the less, the longer it has been trained."""


@dataclass
class SegConfig:
    """Semantic segmentation."""

    batch: int = 2
    """Images a micro-batch on each rank; a step takes `train.accumulate` of them."""
    weight: float = 1.0
    """Factor on the loss."""
    crop: tuple[int, int] = (720, 1280)
    """(height, width) of a training crop in pixels."""
    scale_jitter: tuple[float, float] = (0.5, 2.0)
    """Factor on the image's size before cropping (smallest, largest)."""
    hflip: float = 0.5
    """Probability of mirroring a training image."""
    color_jitter: float = 0.3
    """Strength of brightness, contrast and saturation jitter, 0..1."""
    eval_size: tuple[int, int] | None = None
    """(height, width) that whole frames are resized to for prediction; null: their own size."""
    width: int = 256
    """Channels of the fusion."""
    aux_weight: float = 0.4
    """Weight of the auxiliary loss on the middle depth."""


@dataclass
class TasksConfig:
    """Which tasks are trained, and how."""

    names: list[Literal["cls", "det", "seg"]] | None = None
    """The tasks of the run; null: every task that has shards."""
    cls: ClsConfig = field(default_factory=ClsConfig)
    """Classification."""
    det: DetConfig = field(default_factory=DetConfig)
    """Detection."""
    seg: SegConfig = field(default_factory=SegConfig)
    """Segmentation."""


@dataclass
class DataConfig:
    """Where the samples come from."""

    shards: str | None = None
    """What `shards/build.py` wrote: a folder, its `http(s)://` or `s3://` URL, or `pipe:` and a shell command with `{}`
    in place of `<task>/<file>`, which writes that file to its output."""
    workers: int = 2
    """Reader processes a task on each rank; 0 reads in the training process."""
    window: int = 4
    """Shards that are shuffled together."""
    remote: Literal["cache", "stream"] = "cache"
    """How shards of another machine are read: `cache` fetches each once into a folder of this machine; `stream` needs
    no disk, but every reader fetches for itself and holds two windows of shards in memory."""
    cache: str | None = None
    """Folder for fetched shards, shared by the processes of a machine; null: `ufo_ds/shards` in `$XDG_CACHE_HOME`, else
    in `~/.cache`."""
    cache_gib: float = 100.0
    """Size limit of that folder, GiB; it must take what the order reads at a time: `window` shards a task, all with
    `tasks.cls.balanced`."""


@dataclass
class OptimizerConfig:
    """AdamW and its schedule."""

    lr: float = 1e-4
    """Peak learning rate of the trunk's last block."""
    head_lr_scale: float = 1.0
    """Factor on `lr` for the heads."""
    weight_decay: float = 1e-4
    """Decoupled weight decay; none on biases, norms and position embeddings."""
    betas: tuple[float, float] = (0.9, 0.999)
    """Adam's moment decay rates."""
    layer_decay: float = 1.0
    """Factor on `lr` from each block of the trunk to the one below."""
    warmup_steps: int = 200
    """Steps of linear warm-up."""
    min_lr_scale: float = 0.01
    """Share of `lr` at the end of the cosine."""


@dataclass
class TrainConfig:
    """The loop."""

    steps: int | None = 52_000
    """Optimizer steps; each takes one batch of every task on every rank. null: as `epochs` says."""
    epochs: float = 10.0
    """Where `steps` is null: passes over the task that takes the most steps a pass."""
    precision: Literal["fp32", "bf16"] = "bf16"
    """`bf16`: bf16 arithmetic on fp32 weights (DeepSpeed's `torch_autocast`); boxes and their losses stay fp32."""
    exact_reduce: bool = True
    """With `bf16`: reduce gradients over the ranks in fp32 (exact) instead of bf16 (half the traffic)."""
    accumulate: int = 1
    """Micro-batches of `tasks.<task>.batch` images that each task takes a step, one after another."""
    clip: float = 0.0
    """Largest norm of the combined gradient over all parameters; 0 does not clip."""
    eval_every: int = 2_000
    """Steps between evaluations on val; the last step always evaluates. 0: only the last."""
    eval_images: int | None = None
    """Evaluate on the first so many val images of each task; null: all."""
    checkpoint_every: int = 2_000
    """Steps between checkpoints; the last step always writes one. 0: only the last."""
    keep_checkpoints: int = 2
    """How many of the newest checkpoints are kept."""
    ema: float = 0.0
    """Decay a step of an exponential moving average of the weights, e.g. 0.9998. The average is what is evaluated and
    what `RUN/weights` holds. 0: none."""
    max_skipped: int = 10
    """A task whose loss or gradient is not finite is left out of that step; so many steps in a row end the run."""
    gallery: int = 6
    """Val pictures a task in the report."""
    threads: int | None = None
    """CPU threads a rank; null: the cores divided by the ranks on this machine."""


SurgeryMethod = Literal[
    "none", "pcgrad", "gradvac", "mgda", "imtl_g", "aligned_mtl", "cagrad", "upgrad", "dualproj", "nash_mtl",
    "tbgc", "static", "random", "uncertainty", "famo",
]  # fmt: skip


@dataclass
class SurgeryConfig:
    """How the task gradients on the shared trunk are combined; docs/surgery.md says which method to pick."""

    method: SurgeryMethod = "pcgrad"
    """On the gradients: `pcgrad` (arXiv 2001.06782), `gradvac` (2010.05874), `mgda` (1810.04650), `imtl_g` (ICLR 2021),
    `aligned_mtl` (2305.19000), `cagrad` (2110.14048), `upgrad` and `dualproj` (2406.16232), `nash_mtl` (2202.01017),
    `tbgc` (2307.03465). On the losses: `none` (plain sum), `static` (fixed weights), `random` (2111.10603),
    `uncertainty` (1705.07115), `famo` (2306.03792). All give ones where gradients are orthogonal and of equal norm."""
    every: int = 1
    """Steps between two Gram matrices; in between, the weights stay and no gradients are kept apart. 0: never, for
    the methods on the losses, which use it for the log alone."""
    scope: Literal["trunk", "block"] = "trunk"
    """`trunk`: one Gram matrix and one set of weights; `block`: one for each block of the trunk."""
    log_blocks: bool = False
    """Log cosines and norms for each block of the trunk."""
    self_test: bool = True
    """Compare DeepSpeed's gradient partitions with plain autograd before the first step; a mismatch stops the run."""
    static_weights: dict[str, float] = field(default_factory=dict)
    """`static`: a positive weight for each task; only their ratios count."""
    gradvac_beta: float = 0.5
    """`gradvac`: how fast the target cosines follow, 0..1."""
    cagrad_c: float = 0.4
    """`cagrad`: radius of the ball around the mean gradient, as a share of its norm."""
    aligned_scale: Literal["min", "median", "rmse"] = "min"
    """`aligned_mtl`: which singular value all are brought to."""
    tbgc_clip: float = 0.0
    """`tbgc`: largest norm of a task's gradient on the trunk before all are brought to one norm; 0 does not clip."""
    uncertainty_lr: float = 0.01
    """`uncertainty`: Adam's learning rate for the log-variances."""
    famo_lr: float = 0.025
    """`famo`: Adam's learning rate for the logits."""


@dataclass
class TrackingConfig:
    """Weights & Biases; the local log and the report are always written."""

    wandb: Literal["auto", "online", "offline", "disabled"] = "auto"
    """`auto`: online where a key is set, else offline."""
    project: str = "ufo-ds"
    """wandb project."""
    name: str | None = None
    """wandb run name; null: the run folder's name."""


@dataclass
class Recipe:
    """A whole run."""

    seed: int = 0
    """Of initialisation, order, augmentation and surgery."""
    model: ModelConfig = field(default_factory=ModelConfig)
    """The shared trunk."""
    tasks: TasksConfig = field(default_factory=TasksConfig)
    """The tasks."""
    data: DataConfig = field(default_factory=DataConfig)
    """The samples."""
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    """AdamW and its schedule."""
    train: TrainConfig = field(default_factory=TrainConfig)
    """The loop."""
    surgery: SurgeryConfig = field(default_factory=SurgeryConfig)
    """Combination of the task gradients."""
    tracking: TrackingConfig = field(default_factory=TrackingConfig)
    """Weights & Biases."""
    deepspeed: str | dict[str, Any] = "ds_configs/zero2.json"
    """DeepSpeed JSON: a path (from the working folder or the project's root), or the settings themselves."""
