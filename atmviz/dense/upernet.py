"""UperNet (Xiao et al., 2018), as in Table 3, with the heads of the transformers library."""

from typing import Any

from torch import nn

from atmviz.architecture import PYRAMID_DIM, Neck
from atmviz.dense.pyramid import create_backbone, feature_channels
from atmviz.dense.segmenter import PixelClassifier, Segmenter, init_head
from atmviz.errors import AtmvizError
from atmviz.layers import LayerId
from atmviz.models.atmfpn import ATMUnit


def upernet(
    backbone: str, neck: Neck = "fpn", num_classes: int = 150, dim: int = PYRAMID_DIM, **kwargs: Any
) -> Segmenter:
    """Build UperNet on a backbone.

    Args:
        backbone, kwargs: See `create_backbone`.
        neck: "fpn" keeps the pyramid inside UperNet's head; "atmfpn" builds it of ATM units, except for the pooling
            module at the top. The paper does not have this combination.
        num_classes: Number of classes.
        dim: Channels of the auxiliary head; the head has twice as many.

    Raises:
        AtmvizError: transformers is not installed.

    Source: Table 3.
    """
    try:
        from transformers import UperNetConfig
        from transformers.models.upernet.modeling_upernet import UperNetFCNHead, UperNetHead
    except ImportError:
        raise AtmvizError(
            "got upernet, whose heads come from transformers, which is not installed: pip install 'atmviz[upernet]'"
        ) from None
    body, head_dim = create_backbone(backbone, **kwargs), 2 * dim
    dims = feature_channels(body)
    config = UperNetConfig(  # type: ignore[call-arg]
        hidden_size=head_dim,
        num_labels=num_classes,
        auxiliary_channels=dim,
        auxiliary_num_convs=1,
        auxiliary_in_channels=dims[2],
    )
    head, auxiliary_head = UperNetHead(config, dims), UperNetFCNHead(config, dims)
    head.classifier = PixelClassifier(head_dim, num_classes)
    auxiliary_head.classifier = PixelClassifier(dim, num_classes)
    init_head(head)
    init_head(auxiliary_head)
    if neck == "atmfpn":
        stages = list(enumerate(dims[:-1], start=1))
        head.lateral_convs = nn.ModuleList(ATMUnit(C, head_dim, LayerId(i, 0, "fpn_c")) for i, C in stages)
        head.fpn_convs = nn.ModuleList(ATMUnit(head_dim, head_dim, LayerId(i, 0, "fpn_p")) for i, _ in stages)
    return Segmenter(body, head, auxiliary_head)
