"""How a pyramid's layers start."""

import pytest
import torch
from torch import nn

from atmviz.dense.pyramid import Pyramid, create_backbone
from atmviz.dense.retinanet import P6P7


@pytest.mark.parametrize("extra", [None, P6P7(512, 256)])
def test_convolutions_of_the_pyramid_start_xavier_uniform(extra):
    """mmdetection's: within sqrt(6 / (fan_in + fan_out)), .137 for 64 channels to 256; torchvision's go to .217."""
    neck = Pyramid(create_backbone("atmnet_xtiny"), "fpn", 256, extra=extra).neck
    bounds = []
    for conv in neck.modules():
        if isinstance(conv, nn.Conv2d):
            area = conv.kernel_size[0] * conv.kernel_size[1]
            bound = (6 / (area * (conv.in_channels + conv.out_channels))) ** 0.5
            assert conv.weight.abs().max().item() == pytest.approx(bound, rel=0.01)
            assert conv.weight.std().item() == pytest.approx(bound / 3**0.5, rel=0.02)
            assert torch.equal(conv.bias, torch.zeros_like(conv.bias))
            bounds.append(bound)
    assert len(bounds) == (8 if extra is None else 10)
    assert bounds[0] == pytest.approx(0.137, abs=0.001)
