"""The shared trunk: any timm vision transformer, images in, token maps from several depths out."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from ufo_ds.errors import UserError
from ufo_ds.model.checkpointing import checkpoint_blocks
from ufo_ds.model.elastic import drawn_width, taps, temperature
from ufo_ds.model.features import Features, TrunkShape
from ufo_ds.model.routing import Draw, Way
from ufo_ds.model.task_blocks import check_sizes, cut_blocks, make_routing
from ufo_ds.recipe import ModelConfig, TrunkConfig, Width


class Trunk(nn.Module):
    """A timm ViT that takes images of any size, as uint8.

    Args:
        config: name and options of the ViT.
        tasks: names of the model's tasks, for blocks in which they part.
        settings: the recipe's `trunk`; None: all is shared and whole.

    Raises:
        UserError: no such trunk in timm, one that is no plain ViT, weights that cannot be had, or blocks and sizes that
            this ViT does not have.
    """

    def __init__(self, config: ModelConfig, tasks: Sequence[str] = (), settings: TrunkConfig | None = None) -> None:
        super().__init__()
        self.config, self.tasks, self.settings = config, list(tasks), settings or TrunkConfig()
        self.vit = _create_vit(config)
        check_sizes(self.vit, "trunk.sliced", self.settings.sliced.as_choices())
        whole = len(self.vit.blocks)
        blocks = self.settings.sliced.depth or whole
        if config.depths > blocks:
            raise UserError(f"key 'model.depths' is {config.depths}: '{config.trunk}' has only {blocks} blocks")
        self.indices = taps(config.depths, blocks)
        if isinstance(self.vit.norm, nn.Identity) and isinstance(getattr(self.vit, "fc_norm", None), nn.Module):
            self.vit.norm = self.vit.fc_norm  # published after the pooling, which heads do in their own ways
        # The classifier, pooling and their norms are not on the path of any head; their parameters would never
        # get a gradient.
        self.vit.prune_intermediate_layers(self.indices, prune_norm=False, prune_head=True)
        cut_blocks(self.vit, self.settings.sliced)
        check_sizes(self.vit, "trunk.elastic", self.settings.elastic)
        self.way = Way()
        self.routing = make_routing(self.vit, self.way, self.tasks, self.settings, whole)
        self.width = Width()
        """What evaluation runs at, of a trunk that trains elastically."""
        self.shape = TrunkShape(
            self.vit.embed_dim, config.depths, _patch_size(self.vit), int(self.vit.num_prefix_tokens)
        )
        self.multiple = math.lcm(self.shape.patch, self.settings.multiple)
        mean, std = self.vit.pretrained_cfg["mean"], self.vit.pretrained_cfg["std"]
        self.register_buffer("mean", 255 * torch.tensor(mean).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("std", 255 * torch.tensor(std).view(1, 3, 1, 1), persistent=False)
        checkpoint_blocks(self.vit.blocks, config.checkpointing, self.way if self.routing.parts else None)

    def logits(self) -> list[nn.Parameter]:
        """What tasks choose their ways by, each [2]."""
        return [parameter for part in self.routing.parts for parameter in part.logits()]

    def own_parameters(self) -> list[nn.Parameter]:
        """Parameters that belong to one task each: its copies of modules, and its logits."""
        return [parameter for part in self.routing.parts for parameter in part.copies()] + self.logits()

    def begin_step(self, seed: int, step: int, steps: int) -> dict[str, Any]:
        """Draw what chance decides in a training step, alike on every rank; before the step's first pass.

        Returns:
            For the log: `own`, by task and place the probability of the task's own copy, where that is learned;
            `width`, the size that the step trains, where that is drawn.
        """
        elastic = self.settings.elastic
        draw = Draw(seed, step, temperature(self.settings.temperature, step, steps), drawn_width(elastic, seed, step))
        own = self.routing.begin(draw)
        record: dict[str, Any] = {"own": own} if own else {}
        if elastic.depth or elastic.heads or elastic.mlp:
            record["width"] = dataclasses.asdict(draw.width)
        return record

    def depth_of_parameters(self) -> dict[nn.Parameter, str]:
        """For each shared parameter its place in the depth: `stem`, `block 0`, ..., `norm`; in that order."""
        own = set(self.own_parameters())
        block_of = {id(p): f"block {i}" for i, block in enumerate(self.vit.blocks) for p in block.parameters()}
        places: dict[str, list[nn.Parameter]] = {"stem": [], **{name: [] for name in block_of.values()}, "norm": []}
        for name, parameter in self.vit.named_parameters():
            last = "norm" if name.startswith(("norm.", "fc_norm.")) else "stem"
            if parameter not in own:
                places[block_of.get(id(parameter), last)].append(parameter)
        return {parameter: place for place, parameters in places.items() for parameter in parameters}

    def forward(self, images: Tensor, task: str | None = None) -> Features:
        """uint8 [B, 3, H, W] -> token maps at the patch stride, all depths normalised by the trunk's last norm.

        The input is padded right and bottom with the mean colour to a multiple of `self.multiple` pixels, so that the
        heads' pyramids halve evenly.

        Args:
            images: of one task.
            task: its name; a trunk in which tasks part needs it.
        """
        assert task in self.tasks or not self.routing.routed, f"no path of {task} in this trunk"
        assert self.width.heads is None or self.settings.elastic.heads, "a trunk whose heads are not elastic"
        assert self.width.mlp is None or self.settings.elastic.mlp, "a trunk whose FFNs are not elastic"
        route = self.routing.training_route(task) if self.training else self.routing.settled_route(task, self.width)
        x = (images.float() - self.mean) / self.std
        height, width = x.shape[-2:]
        x = nn.functional.pad(x, (0, -width % self.multiple, 0, -height % self.multiple))
        depth = route.width.depth
        with self.way.taken(route):
            outputs = self.vit.forward_intermediates(
                x,
                indices=taps(self.shape.depths, depth) if depth else self.indices,
                norm=True,
                stop_early=True,
                output_fmt="NCHW",
                intermediates_only=True,
                return_prefix_tokens=self.shape.prefix_tokens > 0,
            )
        maps, prefix = outputs, None
        if self.shape.prefix_tokens:
            maps, prefix = [item[0] for item in outputs], outputs[-1][1]
        return Features(maps, prefix, (int(x.shape[-2]), int(x.shape[-1])))


def _create_vit(config: ModelConfig) -> nn.Module:
    import timm

    name = config.trunk
    if not timm.is_model(name.split(".")[0]):
        near = timm.list_models(f"*{name.split('.')[0][:12]}*")[:3]
        hint = f"; timm has {', '.join(near)}" if near else "; see timm.list_models('*vit*')"
        raise UserError(f"key 'model.trunk': timm {timm.__version__} has no model '{name}'{hint}")
    options = {"num_classes": 0, "dynamic_img_size": True, "drop_path_rate": config.drop_path, **config.trunk_kwargs}
    try:
        if config.pretrained and config.pretrained_file:
            # Read here: older versions of timm would unpickle whatever the file holds.
            weights = timm.models.load_state_dict(config.pretrained_file, weights_only=True)
            options["pretrained_cfg_overlay"] = {"state_dict": weights}
        vit = timm.create_model(name, pretrained=config.pretrained, **options)
        vit.pretrained_cfg.pop("state_dict", None)
    except TypeError as error:
        raise UserError(
            f"key 'model.trunk': '{name}' cannot be made with {options}: {error}; "
            "choose a ViT, and arguments that its timm function takes"
        ) from None
    except Exception as error:
        if not config.pretrained:
            raise UserError(f"key 'model.trunk': '{name}' with {options}: {error}") from None
        what = config.pretrained_file or "the download"
        error = str(error) or type(error).__name__
        raise UserError(
            f"key 'model.pretrained': weights of '{name}' from {what} cannot be had ({error}); give a "
            "local file in 'model.pretrained_file', or set 'model.pretrained' to false"
        ) from None
    if not (hasattr(vit, "blocks") and hasattr(vit, "forward_intermediates") and hasattr(vit, "num_prefix_tokens")):
        raise UserError(
            f"key 'model.trunk': '{name}' is no plain vision transformer; choose a vit_*, deit*, eva02_* "
            "or *dinov3* model of timm"
        )
    if any(isinstance(module, nn.modules.batchnorm._BatchNorm) for module in vit.modules()):
        raise UserError(
            f"key 'model.trunk': '{name}' has BatchNorm, whose statistics would be those of one rank and of all tasks "
            "mixed; choose a model without, such as a vit_*_r_s16_* hybrid"
        )
    return vit


def _patch_size(vit: nn.Module) -> int:
    # Not `patch_size`: a hybrid's patches are cut from the maps of its convolutional stem.
    size = vit.patch_embed.feat_ratio(as_scalar=False)
    high, wide = (size, size) if isinstance(size, int) else size
    if high != wide:
        raise UserError(f"key 'model.trunk': patches of {high} x {wide} pixels; only square ones are supported")
    return int(high)
