"""A transformers detection model without its backbone: neck, decoder, matching and losses on maps it is handed."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ufo_ds.errors import UserError
from ufo_ds.recipe import DetConfig

PRIOR = 0.01  # foreground probability at the start (arXiv 1708.02002); the library's 1 / (K + 1) is far too high


class GivenMaps(nn.Module):
    """Stands in for the model's backbone and returns the maps it was given."""

    def __init__(self) -> None:
        super().__init__()
        self.maps: list[Tensor] = []

    def forward(self, pixel_values: Tensor, pixel_mask: Tensor | None = None) -> list[tuple[Tensor, None]]:
        """The maps, in the form of transformers' convolutional encoders (map, mask)."""
        maps, self.maps = self.maps, []
        return [(one, None) for one in maps]


class FrozenBatchNorm2d(nn.Module):
    """BatchNorm2d with fixed statistics and trainable scale and shift, under BatchNorm2d's parameter names."""

    def __init__(self, norm: nn.BatchNorm2d) -> None:
        super().__init__()
        self.weight, self.bias, self.eps = norm.weight, norm.bias, norm.eps
        self.register_buffer("running_mean", norm.running_mean)
        self.register_buffer("running_var", norm.running_var)

    def forward(self, x: Tensor) -> Tensor:
        """[B, C, H, W] -> [B, C, H, W]."""
        return nn.functional.batch_norm(x, self.running_mean, self.running_var, self.weight, self.bias, eps=self.eps)


def make_decoder(config: DetConfig, num_classes: int) -> nn.Module:
    """A D-FINE (arXiv 2410.13842) or RT-DETR v2 (arXiv 2407.17140) model for maps of `config.width` channels.

    Raises:
        UserError: a `decoder_kwargs` field that the decoder does not have, or `decoder_weights` that do not fit.
    """
    model = _library_model(config, num_classes)
    inner = model.model
    inner.backbone = GivenMaps()
    # The pyramid's levels have the neck's width already.
    inner.encoder_input_proj = nn.ModuleList(nn.Identity() for _ in config.levels)
    _replace_norms(model, _frozen if config.norm == "frozen" else _group)
    if config.decoder_weights:
        load_published(model, Path(config.decoder_weights))
    _autocast_neck_only(inner)
    return model


def _library_model(config: DetConfig, num_classes: int) -> nn.Module:
    if config.decoder == "d_fine":
        from transformers import DFineConfig as Config
        from transformers import DFineForObjectDetection as Model
    else:
        from transformers import RTDetrV2Config as Config
        from transformers import RTDetrV2ForObjectDetection as Model
    settings = _settings(config, num_classes)
    unknown = [key for key in config.decoder_kwargs if key not in Config().to_dict()]
    if unknown:
        raise UserError(f"key 'tasks.det.decoder_kwargs': transformers' {Config.__name__} has no field '{unknown[0]}'")
    try:
        return Model(Config(**{**settings, **config.decoder_kwargs}))
    except (ValueError, TypeError, ImportError) as error:
        raise UserError(f"key 'tasks.det.decoder_kwargs': {error}") from None


def _settings(config: DetConfig, num_classes: int) -> dict[str, Any]:
    levels = len(config.levels)
    settings: dict[str, Any] = {
        "num_labels": num_classes,
        "d_model": config.width,
        "encoder_hidden_dim": config.width,
        "encoder_in_channels": [config.width] * levels,
        "decoder_in_channels": [config.width] * levels,
        "feat_strides": list(config.levels),
        "num_feature_levels": levels,
        "encode_proj_layers": [levels - 1],
        "initializer_bias_prior_prob": PRIOR,
        "freeze_backbone_batch_norms": False,
        "backbone_config": _small_backbone(config.decoder, levels),
    }
    if config.decoder == "rt_detr_v2":
        settings["decoder_n_levels"] = levels
    return settings


def _small_backbone(decoder: str, levels: int) -> Any:
    """The library builds a backbone before it can be replaced: the smallest that its model accepts."""
    stages = list(range(4 - levels + 1, 5)) if levels <= 4 else None
    if stages is None:
        raise UserError("key 'tasks.det.levels': at most 4 levels")
    if decoder == "d_fine":
        from transformers import HGNetV2Config

        return HGNetV2Config(out_indices=stages)
    from transformers import RTDetrResNetConfig

    return RTDetrResNetConfig(
        out_indices=stages, embedding_size=8, hidden_sizes=[8, 8, 8, 8], depths=[1, 1, 1, 1], layer_type="basic"
    )


def _replace_norms(module: nn.Module, make: Callable[[nn.BatchNorm2d], nn.Module]) -> None:
    for name, child in module.named_children():
        if isinstance(child, nn.BatchNorm2d):
            setattr(module, name, make(child))
        else:
            _replace_norms(child, make)


def _group(norm: nn.BatchNorm2d) -> nn.Module:
    channels = norm.num_features
    groups = next(groups for groups in (32, 16, 8, 4, 2, 1) if channels % groups == 0)
    return nn.GroupNorm(groups, channels)


def _frozen(norm: nn.BatchNorm2d) -> nn.Module:
    return FrozenBatchNorm2d(norm)


def _autocast_neck_only(inner: nn.Module) -> None:
    """Let the neck follow autocast and give the decoder fp32: in bf16 a box edge is off by pixels."""
    plain = inner.encoder.forward

    def forward(*args: Any, **kwargs: Any) -> Any:
        device = args[0][0].device.type
        with torch.autocast(device, dtype=torch.bfloat16, enabled=inner.encoder.autocast):
            outputs = plain(*args, **kwargs)
        outputs.last_hidden_state = [one.float() for one in outputs.last_hidden_state]
        return outputs

    inner.encoder.autocast = False
    inner.encoder.forward = forward


def load_published(model: nn.Module, path: Path) -> list[str]:
    """Take what fits in name and shape from a checkpoint of the same decoder. Returns the names taken."""
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        published = load_file(path)
    except (OSError, SafetensorError) as error:
        raise UserError(f"{path}: key 'tasks.det.decoder_weights': not a readable safetensors file ({error})") from None
    own = model.state_dict()
    fitting = {name: value for name, value in published.items() if name in own
               and own[name].shape == value.shape and own[name].is_floating_point() == value.is_floating_point()}
    if not fitting:
        raise UserError(
            f"{path}: key 'tasks.det.decoder_weights': none of its {len(published)} tensors fits this "
            "decoder; check tasks.det.decoder and tasks.det.width"
        )
    model.load_state_dict(fitting, strict=False)
    return sorted(fitting)
