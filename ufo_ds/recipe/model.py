"""The shared trunk."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
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

    def bare(self) -> ModelConfig:
        """The same without published weights, for a model whose tensors come from elsewhere or are never needed."""
        return replace(self, pretrained=False, pretrained_file=None)
