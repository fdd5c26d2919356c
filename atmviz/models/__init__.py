"""ATMNet, registered with timm on import: `timm.create_model("atmnet_tiny")` works after `import atmviz.models`."""

from timm.models import create_model

from atmviz.models.atmfpn import ATMFPN
from atmviz.models.atmnet import ATMNet, released_to_timm
from atmviz.models.token_mixer import ActiveTokenMixer, OffsetMode

__all__ = ["ATMFPN", "ATMNet", "ActiveTokenMixer", "OffsetMode", "create_model", "released_to_timm"]
