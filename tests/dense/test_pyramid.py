"""How a pyramid's layers start, and which backbones it takes."""

import pytest
import torch
from torch import nn

from atmviz.dense.pyramid import Pyramid, create_backbone
from atmviz.dense.retinanet import P6P7
from atmviz.errors import AtmvizError


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


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("nothing", r"cannot build nothing \(Unknown model"),
        ("vgg11", r"cannot build vgg11 \(.*drop_path_rate.*heads need four stages with strides 4 to 32"),
        ("levit_128", r"cannot build levit_128 \(.*heads need four stages"),
        ("vit_tiny_patch16_224", r"got vit_tiny_patch16_224, whose maps have strides \[16, .* 4, 8, 16, 32"),
    ],
)
def test_a_backbone_that_a_head_cannot_take_is_refused(name, message):
    with torch.device("meta"), pytest.raises(AtmvizError, match=message):
        create_backbone(name)


@pytest.mark.parametrize(("first_level", "channels"), [(2, [64, 128, 256, 512]), (3, [128, 256, 512])])
def test_the_last_maps_are_taken_of_a_backbone_with_five(first_level, channels):
    with torch.device("meta"):
        backbone = create_backbone("resnet18", first_level)
        maps = backbone(torch.empty(1, 3, 64, 96))
    assert backbone.feature_info.channels() == channels
    assert [x.shape[1:] for x in maps] == [(c, 1024 // c, 1536 // c) for c in channels]
