"""Checkpoints of every public ATMNet layout: read safely, recognize the variant, load strictly, convert.

Layouts: the released classification files ({"model", "model_ema", ...}), mmseg and mmdet files ({"state_dict", ...},
the backbone's names under "backbone."), bare state dicts, and this project's own names (the "timm" layout); pickled or
as safetensors. Torch is loaded with the first function that needs it.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
