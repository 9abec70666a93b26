"""Leading heads of an attention and leading hidden units of an FFN: as a run of the whole module, or for good."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

from timm.layers import Attention, AttentionRope, GluMlp, Mlp, SwiGLU
from timm.models.eva import EvaAttention
from torch import Tensor, nn
from torch.func import functional_call

from ufo_ds.model.eva_attention import LeadingEvaAttention
from ufo_ds.recipe import Width

Cuts = dict[str, Callable[[Tensor], Tensor]]
"""By the name of a parameter or buffer, what takes its leading part."""


def cuts(module: nn.Module, width: Width) -> Cuts:
    """What makes a module's parameters those of its leading part; empty for what `width` does not touch.

    As in VIMER-UFO (arXiv 2207.10341): a head is some rows of the query, key and value projections and the same
    columns of the output projection; a hidden unit is a row of the first layer and a column of the last.
    """
    if width.heads is not None and attention_refusal(module) is None:
        return _attention_cuts(module, width.heads)
    if width.mlp is not None and ffn_refusal(module) is None:
        return _ffn_cuts(module, width.mlp)
    return {}


def shrink_(module: nn.Module, width: Width) -> nn.Module:
    """Cut a module down in place, to new and smaller parameters. Returns it."""
    found = cuts(module, width)
    for name, cut in found.items():
        inner, _, leaf = name.rpartition(".")
        owner = module.get_submodule(inner)
        whole = getattr(owner, leaf)
        small = cut(whole.detach()).clone()
        setattr(owner, leaf, nn.Parameter(small) if isinstance(whole, nn.Parameter) else small)
        _name_sizes(owner)
    if found and hasattr(module, "num_heads"):
        _name_heads(module, width.heads)
    return module


def _name_sizes(layer: nn.Module) -> None:
    if isinstance(layer, nn.Linear):
        layer.out_features, layer.in_features = layer.weight.shape
    elif hasattr(layer, "normalized_shape"):
        layer.normalized_shape = tuple(layer.weight.shape)


def _name_heads(attention: nn.Module, heads: int) -> None:
    attention.num_heads, attention.attn_dim = heads, heads * attention.head_dim
    if isinstance(attention, AttentionRope):
        attention.num_kv_heads, attention.kv_dim = attention.num_heads, attention.attn_dim
    if isinstance(attention, EvaAttention):
        attention.__class__ = LeadingEvaAttention


class Narrow:
    """Runs a module, or any of its copies, at less than its width, with leading parts of that module's own tensors.

    Args:
        module: an attention or FFN, as timm made it.
    """

    def __init__(self, module: nn.Module) -> None:
        self.pattern = copy.deepcopy(module).to("meta")
        self.small: dict[Width, nn.Module] = {}

    def __call__(self, module: nn.Module, width: Width, *args: Any, **kwargs: Any) -> Tensor:
        """The output of `module` at that width; gradients reach the leading parts of its parameters."""
        if width not in self.small:
            self.small[width] = shrink_(copy.deepcopy(self.pattern), width)
        found = cuts(self.pattern, width)
        whole = {name: module.get_parameter(name) for name, _ in self.pattern.named_parameters()}
        whole |= {name: module.get_buffer(name) for name, _ in self.pattern.named_buffers()}
        tensors = {name: found[name](tensor) if name in found else tensor for name, tensor in whole.items()}
        return functional_call(self.small[width].train(module.training), tensors, args, kwargs)


def attention_refusal(module: nn.Module) -> str | None:
    """Why an attention cannot run with leading heads alone; None where it can."""
    known = type(module) in (EvaAttention, LeadingEvaAttention) or (
        type(module) in (Attention, AttentionRope) and hasattr(module, "attn_dim")
    )
    if not known:
        return f"its attention ({type(module).__name__}) is of another kind"
    if not isinstance(module.norm, nn.Identity):
        return "its attention has a norm over all heads"
    if getattr(module, "gate", None) is not None or getattr(module, "num_kv_groups", 1) > 1:
        return "its attention has a gate, or heads that share keys"
    return None


def ffn_refusal(module: nn.Module) -> str | None:
    """Why an FFN cannot run with leading hidden units alone; None where it can."""
    if type(module) not in (Mlp, GluMlp, SwiGLU) or not isinstance(module.fc2, nn.Linear):
        return f"its FFN ({type(module).__name__}) is of another kind"
    if not isinstance(module.norm, nn.Identity) and not hasattr(module.norm, "normalized_shape"):
        return "its FFN has a norm of another kind inside"
    return None


def _attention_cuts(module: nn.Module, heads: int) -> Cuts:
    whole, size = module.num_heads, module.head_dim

    def rows(tensor: Tensor) -> Tensor:
        kinds = tensor.shape[0] // (whole * size)  # queries, keys and values in one, or one of them
        return tensor.unflatten(0, (kinds, whole, size))[:, :heads].flatten(0, 2)

    layers = ("qkv", "q_proj", "k_proj", "v_proj")
    names = [f"{layer}.{kind}" for layer in layers for kind in ("weight", "bias")] + ["q_bias", "k_bias", "v_bias"]
    return {**_present(module, dict.fromkeys(names, rows)), "proj.weight": lambda tensor: tensor[:, : heads * size]}


def _ffn_cuts(module: nn.Module, share: float) -> Cuts:
    hidden = module.fc2.in_features
    units = max(1, round(share * hidden))

    def rows(tensor: Tensor) -> Tensor:
        halves = tensor.shape[0] // hidden  # the gates and what they let through in one, or one of them
        return tensor.unflatten(0, (halves, hidden))[:, :units].flatten(0, 1)

    names = [f"{layer}.{kind}" for layer in ("fc1", "fc1_g", "fc1_x", "norm") for kind in ("weight", "bias")]
    return {**_present(module, dict.fromkeys(names, rows)), "fc2.weight": lambda tensor: tensor[:, :units]}


def _present(module: nn.Module, found: Cuts) -> Cuts:
    own = {name for tensors in (module.named_parameters(), module.named_buffers()) for name, _ in tensors}
    return {name: cut for name, cut in found.items() if name in own}
