"""ATMNet, registered with timm on import: `timm.create_model("atmnet_tiny")` works after `import atmviz.models`."""

from typing import Any

from timm.models import create_model

from atmviz.architecture import OffsetMode
from atmviz.models.atmfpn import ATMFPN
from atmviz.models.atmnet import ATMNet, released_to_timm
from atmviz.models.token_mixer import ActiveTokenMixer

__all__ = ["ATMFPN", "COMPILE_OPTIONS", "ATMNet", "ActiveTokenMixer", "OffsetMode", "create_model", "released_to_timm"]

# For `torch.compile(network, options=COMPILE_OPTIONS)`. Tokens are [B, H, W, C]: Inductor's layout pass takes such maps
# for [B, C, H, W], lays W outermost and is a tenth slower.
COMPILE_OPTIONS: dict[str, Any] = {"layout_optimization": False}
