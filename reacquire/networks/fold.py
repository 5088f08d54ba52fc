"""The exact fold of single-token cross-attention.

With one key the softmax is 1 whatever the query, so the attention adds ``out_proj(to_v(token))`` at every pixel
(docs/paper.md row 9): queries, keys and the norm before them are dead weight.
"""

import copy

from monai.networks.blocks.crossattention import CrossAttentionBlock
from monai.networks.nets.diffusion_model_unet import DiffusionUNetTransformerBlock
from torch import Tensor, nn

from reacquire.networks.denoiser import Denoiser


class FoldedCrossAttention(nn.Module):
    """A linear map of the one token, broadcast over the pixels by the residual sum that follows it."""

    def __init__(self, attention: CrossAttentionBlock) -> None:
        super().__init__()
        weight = attention.out_proj.weight.detach() @ attention.to_v.weight.detach()
        self.project = nn.Linear(weight.shape[1], weight.shape[0], device=weight.device, dtype=weight.dtype)
        self.project.weight.data.copy_(weight)
        self.project.bias.data.copy_(attention.out_proj.bias.detach())

    def forward(self, x: Tensor, context: Tensor) -> Tensor:  # noqa: ARG002  # same call as the block it replaces
        """(B, pixels, C), (B, 1, D) -> (B, 1, C)."""
        return self.project(context)


def fold_cross_attention(denoiser: Denoiser) -> Denoiser:
    """A copy for inference whose cross-attention is folded; its output is the same to rounding."""
    folded = copy.deepcopy(denoiser)
    for module in folded.modules():
        if isinstance(module, DiffusionUNetTransformerBlock):
            module.add_module("attn2", FoldedCrossAttention(module.attn2))
            module.add_module("norm2", nn.Identity())
    return folded
