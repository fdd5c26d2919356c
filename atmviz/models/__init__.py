"""ATMNet and ATMFpn. Importing this registers ATMNet with timm: `timm.create_model("atmnet_tiny")` works afterwards."""

from timm.models import create_model

from atmviz.models.atmfpn import ATMFPN
from atmviz.models.atmnet import ATMNet
from atmviz.models.compiling import COMPILE_OPTIONS, compile_blocks
from atmviz.models.layers import set_fused
from atmviz.models.token_mixer import ActiveTokenMixer

__all__ = ["ATMFPN", "COMPILE_OPTIONS", "ATMNet", "ActiveTokenMixer", "compile_blocks", "create_model", "set_fused"]
