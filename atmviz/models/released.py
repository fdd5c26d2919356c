"""The names of tensors in released checkpoints, and those of `ATMNet`."""

import re
from collections.abc import Mapping

from torch import Tensor, nn

_RELEASED_NAMES = (
    (r"^patch_embed\.proj\.", "stem."),
    (r"^pos_blocks\.(\d+)\.", r"stages.\1.peg."),
    (r"^blocks\.(\d+)\.(\d+)\.", r"stages.\1.blocks.\2."),
    (r"\.atm\.atm_w\.", ".token_mixer.fc_width."),
    (r"\.atm\.atm_h\.", ".token_mixer.fc_height."),
    (r"\.atm\.atm_c\.", ".token_mixer.fc_identity."),
    (r"\.atm\.", ".token_mixer."),
    (r"\.offset_layer\.0\.", ".offset.norm."),
    (r"\.offset_layer\.1\.", ".offset.linear."),
    (r"^norm_(\d+)\.", r"out_norms.\1."),
    (r"^head\.(weight|bias)$", r"head.fc.\1"),
)


def checkpoint_filter_fn(state: Mapping[str, Tensor], model: nn.Module | None = None) -> dict[str, Tensor]:
    """Convert what timm reads of a file: a released classifier, a dense network, or a file of this project.

    Averaged weights are taken where there are some, as timm itself does for "model_ema". Of a dense network only the
    backbone is kept. timm opens pickles by `torch.load(weights_only=True)`: it runs nothing, but takes as much memory
    as a file asks for, and refuses numbers of numpy's. `atmviz.convert_checkpoint` has neither limit.

    Args:
        state: Tensors by name.
        model: Not used; timm passes it.
    """
    for prefix in ("model_ema.", "model.", "backbone.", "body.", "model."):
        state = tensors_below(state, prefix) or state
    return released_to_timm(state)


def released_to_timm(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Rename a released state dict to the names of `ATMNet`; a state dict with these names is returned unchanged.

    The branch convolutions [C, C, 1, 1] become linear layers [C, C], and each downsampling convolution moves from the
    last block of a stage to the start of the next.
    """
    renamed = {}
    for name, tensor in state.items():
        if match := re.fullmatch(r"blocks\.(\d+)\.\d+\.downsample\.proj\.(\w+)", name):
            name = f"stages.{int(match[1]) + 1}.downsample.{match[2]}"
        for pattern, replacement in _RELEASED_NAMES:
            name = re.sub(pattern, replacement, name)
        if re.search(r"\.fc_(width|height)\.weight$", name) and tensor.dim() == 4:
            tensor = tensor.flatten(1)
        renamed[name] = tensor
    return renamed


def tensors_below(state: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """Return the tensors whose names start with a prefix, under their names without it."""
    return {name.removeprefix(prefix): tensor for name, tensor in state.items() if name.startswith(prefix)}
