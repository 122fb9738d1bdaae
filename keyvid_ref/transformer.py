"""The self-attention that the CLIP encoders and the audio trunk share."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class SelfAttention(nn.Module):
    """Multi-head self-attention under the state-dict names of `nn.MultiheadAttention`.

    With `bias_kv`, one learned key and value joins those of the tokens (released audio trunk).
    """

    def __init__(self, width: int, heads: int, *, causal: bool = False, bias_kv: bool = False):
        super().__init__()
        self.heads = heads
        self.causal = causal
        self.in_proj_weight = nn.Parameter(torch.empty(3 * width, width))
        self.in_proj_bias = nn.Parameter(torch.zeros(3 * width))
        self.out_proj = nn.Linear(width, width)
        self.bias_k = nn.Parameter(torch.empty(1, 1, width)) if bias_kv else None
        self.bias_v = nn.Parameter(torch.empty(1, 1, width)) if bias_kv else None
        nn.init.xavier_uniform_(self.in_proj_weight)
        for bias in (self.bias_k, self.bias_v):
            if bias is not None:
                nn.init.xavier_normal_(bias)

    def forward(self, x: Tensor) -> Tensor:
        """(B, N, width) to (B, N, width)."""
        query, key, value = F.linear(x, self.in_proj_weight, self.in_proj_bias).chunk(3, dim=-1)
        if self.bias_k is not None and self.bias_v is not None:
            key = torch.cat([key, self.bias_k.expand(len(x), -1, -1)], dim=1)  # (B, N + 1, width)
            value = torch.cat([value, self.bias_v.expand(len(x), -1, -1)], dim=1)
        query, key, value = (
            part.unflatten(-1, (self.heads, -1)).transpose(1, 2)  # (B, heads, N, d)
            for part in (query, key, value)
        )
        out = F.scaled_dot_product_attention(query, key, value, is_causal=self.causal)
        projected: Tensor = self.out_proj(out.transpose(1, 2).flatten(2))
        return projected
