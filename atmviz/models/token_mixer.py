"""The Active Token Mixer: Eqs. (1) to (4) of the paper.

Eq. (1) describes every token mixer: a query token becomes a sum of context tokens, each embedded by a function g and
multiplied by a weight. In this mixer:

- The context of each channel is one token of the query token's row, one of its column, and the query token itself:
  branches W, H and I. Learned offsets choose the first two, Eq. (2).
- g is one fully connected layer per branch.
- Eq. (4) computes the weights of the branches, and Eq. (3) the sum.

Legend: B batch, H/W grid in tokens, C channels, O distinct offsets per direction and sample, S = C / O channels
per offset.
"""

from collections.abc import Callable
from typing import get_args

import torch
from timm.layers import Mlp
from torch import Tensor, nn
from torchvision.ops import deform_conv2d

from atmviz.architecture import FusionMode, OffsetMode
from atmviz.models.norm import LayerNorm
from atmviz.ops import sample_along, weighted_sum


class OffsetLayer(nn.Module):
    """Predicts where each channel looks: LayerNorm, then one fully connected layer.

    Source: Sec. 3.2, "feed it into a FC layer". The released code normalizes first, predicts O distinct offsets per
    direction and repeats each over S neighboring channels; they stay distinct here.
    """

    def __init__(self, dim: int, num_offsets: int) -> None:
        super().__init__()
        self.norm = LayerNorm(dim)
        self.linear = nn.Linear(dim, 2 * num_offsets)

    def forward(self, x: Tensor) -> Tensor:
        """Predict offsets in tokens, [B, H, W, 2, O], axis 3: horizontal, vertical, from tokens [B, H, W, C]."""
        return self.linear(self.norm(x)).unflatten(-1, (2, -1))


class ActiveTokenMixer(nn.Module):
    """Fetches per-channel context along both axes and fuses it with the query token.

    Two identity modules name what can be observed (or replaced) with a forward hook:
        hook_offset: the offsets this layer uses, [B, H, W, 2, O] in tokens; never called in mode "zero".
        hook_fusion: the fusion weights, [B, 1, 1, C, branches] in fusion "image", else [B, H, W, C, branches], in the
            order of `branches`, summing to one over the last axis.

    The released code differs from the paper's text: all tokens of an image have the same fusion weights, predicted from
    the mean over the map by an MLP with a bottleneck of C / 4, and a linear layer follows Eq. (3).

    Args:
        dim: Channels C.
        offset_mode: "decoupled" samples along each axis (the paper); "joint" takes one 2-D sample per channel
            (Fig. 2, A); "zero" reads the query token itself (Table 8, row 1).
        num_samples: Tokens fetched per channel and direction: 1, or 3 for Fig. 2, B. With several, FC^W and FC^H embed
            all of them, and the offsets hold the O values of sample 0 first, then those of sample 1, and so on.
        fusion: "image" is the released code's, see above; "token" is the same without the mean, so that each query
            token has weights of its own; "paper" is Eq. (4) as printed, three C x C matrices per query token, without
            bias, bottleneck or the layer after Eq. (3).
        out_dim: Channels of the mixed tokens; C by default.

    Attributes:
        fused: Compute Eq. (3) in one pass with `atmviz.ops.weighted_sum`; False for PyTorch's operators.
    """

    fused = True

    def __init__(
        self,
        dim: int,
        offset_mode: OffsetMode = "decoupled",
        num_samples: int = 1,
        fusion: FusionMode = "image",
        out_dim: int | None = None,
    ) -> None:
        super().__init__()
        out_dim = out_dim or dim
        if offset_mode not in get_args(OffsetMode) or fusion not in get_args(FusionMode) or num_samples < 1:
            raise ValueError(
                f"got offset_mode {offset_mode!r}, fusion {fusion!r}, {num_samples} samples, expected one of "
                f"{get_args(OffsetMode)}, one of {get_args(FusionMode)}, 1 sample or more"
            )
        self.offset_mode = offset_mode
        self.num_samples = num_samples
        self.fusion_mode = fusion
        if offset_mode == "joint":
            self.branches: tuple[str, ...] = ("joint", "identity")
            self.fc_joint = nn.Linear(num_samples * dim, out_dim)
        else:
            self.branches = ("width", "height", "identity")
            self.fc_width = nn.Linear(num_samples * dim, out_dim)  # FC^W
            self.fc_height = nn.Linear(num_samples * dim, out_dim)  # FC^H
        self.fc_identity = nn.Linear(dim, out_dim, bias=False)  # FC^I
        self.fusion: nn.Module  # to logits, branches of one channel side by side
        if fusion == "paper":
            self.fusion = nn.Linear(out_dim, len(self.branches) * out_dim, bias=False)  # W^W, W^H, W^I
            self.proj: nn.Module = nn.Identity()
        else:
            self.fusion = Mlp(out_dim, out_dim // 4, len(self.branches) * out_dim)
            self.proj = nn.Linear(out_dim, out_dim)
        self.hook_offset = nn.Identity()
        self.hook_fusion = nn.Identity()

    def forward(self, x: Tensor, offset: Tensor | None) -> Tensor:
        """Mix normed tokens.

        Args:
            x: Normed tokens, [B, H, W, C].
            offset: Offsets in tokens, [B, H, W, 2, num_samples * O], axis 3: horizontal, vertical; None in mode "zero".

        Returns:
            Mixed tokens, [B, H, W, out_dim].
        """
        if x.is_cuda and torch.is_autocast_enabled("cuda"):
            # PyTorch's norms return float32. Cast once: all branches sample, and keep for backward, the same copy.
            x = x.to(torch.get_autocast_dtype("cuda"))
        if offset is not None:
            offset = self.hook_offset(offset)
        embedded = self._embed_branches(x, offset)  # x-hat of W, H, I
        alpha = self.hook_fusion(self._fusion_weights(embedded))
        # Eq. (3); the paper prints x-tilde where its text means the embedded x-hat.
        if self.fused:
            return self.proj(weighted_sum(embedded, alpha))
        return self.proj(sum(weight * tokens for weight, tokens in zip(alpha.unbind(-1), embedded, strict=True)))

    def _embed_branches(self, x: Tensor, offset: Tensor | None) -> list[Tensor]:
        """Recompose tokens by Eq. (2), then embed them with each branch's fully connected layer."""
        if self.offset_mode == "joint":
            return [self.fc_joint(self._fetch(x, offset, sample_jointly)), self.fc_identity(x)]
        horizontal, vertical = (None, None) if offset is None else offset.unbind(3)
        return [
            self.fc_width(self._fetch(x, horizontal, lambda x, offset: sample_along(x, offset, "width"))),
            self.fc_height(self._fetch(x, vertical, lambda x, offset: sample_along(x, offset, "height"))),
            self.fc_identity(x),
        ]

    def _fetch(self, x: Tensor, offset: Tensor | None, sample: Callable[[Tensor, Tensor], Tensor]) -> Tensor:
        """Fetch all samples of a branch, side by side, [B, H, W, num_samples * C]; the query token without offsets."""
        parts = [None] * self.num_samples if offset is None else offset.chunk(self.num_samples, dim=-1)
        samples = [x if part is None else sample(x, part) for part in parts]
        return torch.cat(samples, dim=-1) if len(samples) > 1 else samples[0]

    def _fusion_weights(self, embedded: list[Tensor]) -> Tensor:
        """Eq. (4): softmax over the branches, for each channel separately."""
        if self.fusion_mode == "image":  # averaged before they are added: the sum of whole maps is never written
            embedded = [tokens.mean((1, 2), keepdim=True) for tokens in embedded]
        return self.fusion(sum(embedded)).unflatten(-1, (-1, len(self.branches))).softmax(-1)


def sample_jointly(x: Tensor, offset: Tensor) -> Tensor:
    """Take one 2-D sample per channel at [i + o_vertical, j + o_horizontal].

    Args:
        x: Feature map, [B, H, W, C].
        offset: Shift in tokens, [B, H, W, 2, O], axis 3: horizontal, vertical.

    Returns:
        Recomposed tokens, [B, H, W, C]; neighbors outside the map read as zero.

    Source: Fig. 2, A (caption). An ablation: torchvision's operator does it, with one offset group per channel.
    """
    channels = x.shape[-1]
    yx = offset.flip(3).repeat_interleave(channels // offset.shape[-1], dim=-1)
    yx = yx.permute(0, 4, 3, 1, 2).flatten(1, 2)  # [B, H, W, 2, C] -> [B, 2C, H, W], (y, x) for each channel
    dtype = torch.promote_types(x.dtype, torch.float32)  # the operator does not take bfloat16
    each_channel = torch.ones(channels, 1, 1, 1, device=x.device, dtype=dtype)
    sampled = deform_conv2d(x.permute(0, 3, 1, 2).to(dtype), yx.to(dtype), each_channel)
    return sampled.permute(0, 2, 3, 1).to(x.dtype)  # NCHW -> NHWC
