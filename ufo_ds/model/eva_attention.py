"""EVA's attention (EVA-02, DINOv3) with fewer heads than its width has room for, which timm's class cannot have."""

from __future__ import annotations

import torch
from timm.layers import apply_rot_embed_cat
from timm.models.eva import EvaAttention
from torch import Tensor, nn


class LeadingEvaAttention(EvaAttention):
    """timm's `EvaAttention` after `num_heads` was lowered and its tensors were cut to those heads.

    Of another class are what comes out of the heads and how it is joined; names and meaning of all tensors stay.
    """

    def forward(
        self, x: Tensor, rope: Tensor | None = None, attn_mask: Tensor | None = None, is_causal: bool = False
    ) -> Tensor:
        """Tokens [B, L, D] -> [B, L, D]; `rope` [L - prefix, 2 * head_dim] turns queries and keys of the patches."""
        if self.qkv is not None:
            bias = None if self.q_bias is None else torch.cat((self.q_bias, self.k_bias, self.v_bias))
            projected = nn.functional.linear(x, self.qkv.weight, bias).chunk(3, dim=-1)
        else:
            projected = self.q_proj(x), self.k_proj(x), self.v_proj(x)
        query, key, value = (one.unflatten(-1, (self.num_heads, self.head_dim)).transpose(1, 2) for one in projected)
        query, key = self.q_norm(query), self.k_norm(key)
        if rope is not None:
            query, key = (self._turned(one, rope).type_as(value) for one in (query, key))
        dropout = self.attn_drop.p if self.training else 0.0
        mixed = nn.functional.scaled_dot_product_attention(
            query, key, value, attn_mask=attn_mask, dropout_p=dropout, is_causal=is_causal
        )
        return self.proj_drop(self.proj(mixed.transpose(1, 2).flatten(2)))

    def _turned(self, heads: Tensor, rope: Tensor) -> Tensor:
        prefix, patches = heads.split([self.num_prefix_tokens, heads.shape[2] - self.num_prefix_tokens], dim=2)
        half = getattr(self, "rotate_half", False)  # earlier versions of timm know one kind only
        return torch.cat([prefix, apply_rot_embed_cat(patches, rope, half=half)], dim=2)
