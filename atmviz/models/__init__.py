"""ATMNet and ATMFpn. Importing this registers ATMNet with timm: `timm.create_model("atmnet_tiny")` works afterwards."""

from typing import Any

from timm.models import create_model

from atmviz.models.atmfpn import ATMFPN
from atmviz.models.atmnet import ATMNet
from atmviz.models.layers import set_fused
from atmviz.models.token_mixer import ActiveTokenMixer

__all__ = ["ATMFPN", "COMPILE_OPTIONS", "ATMNet", "ActiveTokenMixer", "create_model", "set_fused"]

# For `torch.compile(network, options=COMPILE_OPTIONS)`. Inductor's layout pass mistakes token maps [B, H, W, C] for
# [B, C, H, W] and reorders them in memory, which makes networks 10 % slower.
COMPILE_OPTIONS: dict[str, Any] = {"layout_optimization": False}
