"""UperNet (Xiao et al., 2018), as in Table 3. Its heads are those of transformers: `pip install 'atmviz[upernet]'`."""

from typing import Any

from torch import nn

from atmviz.dense.pyramid import create_body, map_dims
from atmviz.dense.segmenter import PixelClassifier, Segmenter, init_head
from atmviz.errors import AtmvizError
from atmviz.layers import LayerId
from atmviz.models.atmfpn import ATMUnit
from atmviz.variants import Neck

_HEAD_DIM, _AUXILIARY_DIM = 512, 256


def upernet(backbone: str, neck: Neck = "fpn", num_classes: int = 150, **kwargs: Any) -> Segmenter:
    """UperNet on a backbone; `kwargs` as in `create_body`.

    Args:
        backbone: See `create_body`.
        neck: UperNet has a pyramid of its own; "atmfpn" makes that one of ATM units, around the pooling module that
            is its top level. The paper does not have this combination.
        num_classes: Of the scores.

    Raises:
        AtmvizError: transformers is not installed.
    """
    try:
        from transformers import UperNetConfig
        from transformers.models.upernet.modeling_upernet import UperNetFCNHead, UperNetHead
    except ImportError:
        raise AtmvizError(
            "got upernet, whose heads come from transformers, which is not installed: pip install 'atmviz[upernet]'"
        ) from None
    body = create_body(backbone, **kwargs)
    dims = map_dims(body)
    config = UperNetConfig(  # type: ignore[call-arg]
        hidden_size=_HEAD_DIM,
        num_labels=num_classes,
        auxiliary_channels=_AUXILIARY_DIM,
        auxiliary_num_convs=1,
        auxiliary_in_channels=dims[2],
    )
    head, auxiliary_head = UperNetHead(config, dims), UperNetFCNHead(config, dims)
    head.classifier = PixelClassifier(_HEAD_DIM, num_classes)
    auxiliary_head.classifier = PixelClassifier(_AUXILIARY_DIM, num_classes)
    init_head(head)
    init_head(auxiliary_head)
    if neck == "atmfpn":
        stages = list(enumerate(dims[:-1], start=1))
        head.lateral_convs = nn.ModuleList(ATMUnit(dim, _HEAD_DIM, LayerId(i, 0, "fpn_c")) for i, dim in stages)
        head.fpn_convs = nn.ModuleList(ATMUnit(_HEAD_DIM, _HEAD_DIM, LayerId(i, 0, "fpn_p")) for i, _ in stages)
    return Segmenter(body, head, auxiliary_head)
