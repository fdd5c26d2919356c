"""Anchors and RoI pooling against written-out mmdetection arithmetic."""

import math

import pytest
import torch
from torch import nn
from torchvision.models.detection.image_list import ImageList
from torchvision.ops import MultiScaleRoIAlign, roi_align

from atmviz.dense.detector import P6P7, FixedStrideAnchors, RoIPool, octave_scales
from atmviz.dense.mask_rcnn import RPN
from atmviz.dense.retinanet import retinanet
from atmviz.dense.roi_heads import BoxPredictor, MaskPredictor


def anchors_of(generator, size, strides):
    maps = [torch.zeros(1, 1, math.ceil(size[0] / s), math.ceil(size[1] / s)) for s in strides]
    (found,) = generator(ImageList(torch.zeros(1, 3, *size), [size]), maps)
    return found, maps


def written_out(size, strides, sides, ratios=(0.5, 1.0, 2.0)):
    boxes = []
    for stride, level in zip(strides, sides, strict=True):
        for i in range(math.ceil(size[0] / stride)):
            for j in range(math.ceil(size[1] / stride)):
                for ratio in ratios:
                    for side in level:
                        w, h = side / math.sqrt(ratio), side * math.sqrt(ratio)
                        boxes.append([j * stride - w / 2, i * stride - h / 2, j * stride + w / 2, i * stride + h / 2])
    return torch.tensor(boxes)


@pytest.mark.parametrize(
    ("generator", "strides", "sides"),
    [
        (RPN(256).anchor_generator, (4, 8, 16, 32, 64), [[8 * s] for s in (4, 8, 16, 32, 64)]),
        (
            FixedStrideAnchors([octave_scales(4 * s) for s in (8, 16, 32, 64, 128)], (8, 16, 32, 64, 128)),
            (8, 16, 32, 64, 128),
            [[4 * s * 2 ** (k / 3) for k in range(3)] for s in (8, 16, 32, 64, 128)],
        ),
    ],
    ids=["rpn", "retinanet"],
)
def test_anchors_lie_on_their_strides_unrounded(generator, strides, sides):
    size = (100, 70)  # no multiple of any stride
    found, _ = anchors_of(generator, size, strides)
    torch.testing.assert_close(found, written_out(size, strides, sides), atol=1e-4, rtol=0)


@pytest.mark.parametrize(("dim", "std"), [(256, 0.01), (64, 0.02)])
def test_retinanets_branches_are_drawn_for_their_width(dim, std):
    head = retinanet("atmnet_nano", num_classes=2, dim=dim).head
    for branch in (head.classification_head, head.regression_head):
        drawn = [module.weight.std().item() for module in branch.conv.modules() if isinstance(module, nn.Conv2d)]
        assert drawn == pytest.approx([std] * 4, rel=0.05)


def test_stock_anchors_would_drift_at_the_papers_size():
    """Why there is a class of our own: torchvision's P6 stride at 800 px is 61."""
    assert 800 // math.ceil(800 / 64) == 61
    found, maps = anchors_of(RPN(256).anchor_generator, (800, 1280), (4, 8, 16, 32, 64))
    assert found[-1, [1, 3]].mean() == 64 * (maps[-1].shape[-2] - 1)


def test_boxes_are_pooled_from_the_level_of_their_size():
    maps = {f"p{level}": torch.full((1, 1, 2 ** (9 - level), 2 ** (9 - level)), float(level)) for level in range(2, 6)}
    sides = [20, 111, 113, 223, 225, 447, 449, 500]
    boxes = torch.tensor([[6.0, 6.0, 6.0 + side, 6.0 + side] for side in sides])
    pooled = RoIPool(7)(maps, [boxes], [(512, 512)])
    assert [round(x.median().item()) for x in pooled] == [2, 2, 3, 3, 4, 4, 5, 5]


def test_pooling_is_aligned_with_as_many_samples_as_tokens():
    generator = torch.Generator().manual_seed(0)
    maps = {
        f"p{level}": torch.randn(2, 3, 2 ** (8 - level), 2 ** (8 - level), generator=generator) for level in range(2, 6)
    }
    boxes = [torch.tensor([[3.0, 5.0, 60.0, 71.0]]), torch.tensor([[10.0, 10.0, 90.0, 40.0], [0.0, 0.0, 9.0, 9.0]])]
    pooled = RoIPool(7)(maps, boxes, [(256, 256)] * 2)
    rois = torch.cat([torch.cat([torch.full((len(b), 1), float(i)), b], 1) for i, b in enumerate(boxes)])
    expected = roi_align(maps["p2"], rois, 7, 0.25, sampling_ratio=0, aligned=True)
    torch.testing.assert_close(pooled, expected)
    stock = MultiScaleRoIAlign(["p2", "p3", "p4", "p5"], 7, 2)(maps, boxes, [(256, 256)] * 2)
    assert (stock - pooled).abs().max() > 0.1  # half a token off


def test_p6_and_p7_are_two_convolutions_of_c5():
    block = P6P7(3, 4)
    c5 = torch.randn(1, 3, 9, 9)
    maps, names = block([torch.zeros(1, 4, 9, 9)], [c5], ["p5"])
    assert names == ["p5", "p6", "p7"]
    assert torch.equal(maps[2], block.p7(block.p6(c5)))  # no ReLU between
    assert [x.shape[-1] for x in maps] == [9, 5, 3]


def test_background_is_scored_but_has_neither_box_nor_mask():
    scores, deltas = BoxPredictor(1024, 5)(torch.randn(2, 1024))
    assert scores.shape == (2, 6)
    assert deltas.shape == (2, 24)
    assert (deltas[:, :4] == 0).all()
    assert (deltas[:, 4:] != 0).all()
    masks = MaskPredictor(256, 5)(torch.randn(1, 256, 14, 14))
    assert masks.shape == (1, 6, 28, 28)
    assert (masks[:, 0] == 0).all()


def test_images_are_resized_to_the_shorter_side_and_boxes_come_back_in_their_own_pixels():
    model = retinanet("atmnet_nano", num_classes=5, min_size=64, max_size=80).eval()
    batch, targets = model.transform([torch.zeros(3, 100, 200)], [{"boxes": torch.tensor([[20.0, 10.0, 100.0, 50.0]])}])
    assert batch.image_sizes == [(40, 80)]  # the longer side decides
    assert batch.tensors.shape[-2:] == (64, 96)
    torch.testing.assert_close(targets[0]["boxes"], torch.tensor([[8.0, 4.0, 40.0, 20.0]]))
