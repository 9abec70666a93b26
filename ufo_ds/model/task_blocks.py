"""From the recipe's `trunk` to the parts of a trunk that are routed or run at less than their width."""

from __future__ import annotations

from collections.abc import Sequence

from torch import nn

from ufo_ds.errors import UserError
from ufo_ds.model.routing import Part, Routing, Way
from ufo_ds.model.slicing import attention_refusal, ffn_refusal, shrink_
from ufo_ds.recipe import ElasticConfig, TaskBlocksConfig, TrunkConfig, Width

MODULES = {"ffn": ("mlp",), "norm": ("norm1", "norm2"), "attention": ("attn",)}
"""Names of a block's modules in timm, by the recipe's key."""


def make_routing(vit: nn.Module, way: Way, tasks: Sequence[str], config: TrunkConfig, whole: int) -> Routing:
    """Put the parts that the recipe asks for into the blocks of a trunk.

    Args:
        vit: of timm, cut to its size.
        way: of the trunk.
        tasks: of the model.
        config: the recipe's `trunk`.
        whole: number of blocks before the trunk was cut; the recipe's numbers are of those.

    Raises:
        UserError: blocks that there are not, or that have no such module.
    """
    routed, elastic = set(chosen_blocks(config.task_blocks, whole)), config.elastic
    assert tasks or not routed, "tasks part in this trunk: name them"
    if routed and not any(number < len(vit.blocks) for number in routed):
        raise UserError(
            f"key 'trunk.task_blocks.blocks' is {config.task_blocks.blocks}: of the {whole} blocks that it counts the "
            f"trunk keeps the first {len(vit.blocks)} (trunk.sliced.depth); name some of these"
        )
    narrow = {"attn": bool(elastic.heads), "mlp": bool(elastic.mlp)}
    parts = []
    for number, block in enumerate(vit.blocks):
        for key, names in MODULES.items():
            for name in names:
                kind = getattr(config.task_blocks, key) if number in routed else "shared"
                if kind == "shared" and not narrow.get(name):
                    continue
                if not isinstance(getattr(block, name, None), nn.Module):
                    raise UserError(
                        f"key 'trunk.task_blocks': block {number} of this trunk ({type(block).__name__}) has no "
                        f"'{name}' of its own to route; choose another model.trunk, or blocks: none"
                    )
                place = f"block {number} {key if len(names) == 1 else name}"
                parts.append(Part(way, block, name, place, kind, tasks, bool(narrow.get(name))))
    return Routing(parts)


def chosen_blocks(config: TaskBlocksConfig, count: int) -> list[int]:
    """The numbers of the blocks, of `count`, that `trunk.task_blocks.blocks` means. Raises `UserError`."""
    spec = config.blocks
    if spec == "none":
        return []
    if isinstance(spec, str):
        kind, _, number = spec.partition(":")
        every = {"all": range(count), "last": range(count - int(number or 0), count)}
        found = list(every[kind] if kind in every else range(int(number) - 1, count, int(number)))
    else:
        found = sorted(spec)
    if found != [block for block in found if 0 <= block < count] or (not found and spec):
        raise UserError(f"key 'trunk.task_blocks.blocks' is {spec}: the trunk has {count} blocks, 0 to {count - 1}")
    return found


def check_sizes(vit: nn.Module, key: str, sizes: ElasticConfig) -> None:
    """Whether the trunk can be cut to the sizes of `key`, `trunk.elastic` or `trunk.sliced`. Raises `UserError`."""
    if max(sizes.depth, default=0) > len(vit.blocks):
        raise UserError(f"key '{key}.depth' is {max(sizes.depth)}: the trunk has {len(vit.blocks)} blocks")
    for block in vit.blocks:
        if sizes.heads:
            _check_heads(f"{key}.heads", vit, block, max(sizes.heads))
        refusal = ffn_refusal(getattr(block, "mlp", None)) if sizes.mlp else None
        if refusal:
            raise UserError(f"key '{key}.mlp': this trunk cannot be cut so, {refusal}; leave the key out")


def _check_heads(key: str, vit: nn.Module, block: nn.Module, most: int) -> None:
    attention = getattr(block, "attn", None)
    refusal = attention_refusal(attention)
    if getattr(vit, "rope_mixed", False):
        refusal = "its position embedding differs by head"
    if refusal:
        raise UserError(f"key '{key}': this trunk cannot be cut so, {refusal}; leave the key out")
    if most > attention.num_heads:
        raise UserError(f"key '{key}' is {most}: the trunk has {attention.num_heads} heads")


def cut_blocks(vit: nn.Module, size: Width) -> None:
    """Cut heads and hidden units of every block for good; the depth is the caller's."""
    for block in vit.blocks:
        for module in list(block.modules()):
            shrink_(module, size)
