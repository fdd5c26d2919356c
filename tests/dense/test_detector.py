"""Anchors and RoI pooling against written-out mmdetection arithmetic."""

import math

import cv2
import numpy as np
import pytest
import torch
from torch import nn
from torchvision.models.detection.image_list import ImageList
from torchvision.ops import MultiScaleRoIAlign, roi_align

from atmviz.dense.detector import (
    BACKGROUND,
    UNUSED,
    AnchorMatcher,
    BoxCoder,
    DetectorTransform,
    FixedStrideAnchors,
    RoIPool,
    paste_masks,
)
from atmviz.dense.mask_rcnn import RPN
from atmviz.dense.retinanet import P6P7, retinanet
from atmviz.dense.roi_heads import BoxPredictor, MaskPredictor, mask_targets


def anchors_of(generator, size, strides):
    maps = [torch.zeros(1, 1, math.ceil(size[0] / s), math.ceil(size[1] / s)) for s in strides]
    (anchors,) = generator(ImageList(torch.zeros(1, 3, *size), [size]), maps)
    return anchors, maps


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
            retinanet("atmnet_nano", num_classes=2, dim=64).anchor_generator,
            (8, 16, 32, 64, 128),
            [[4 * s * 2 ** (k / 3) for k in range(3)] for s in (8, 16, 32, 64, 128)],
        ),
    ],
    ids=["rpn", "retinanet"],
)
def test_anchors_lie_on_their_strides_unrounded(generator, strides, sides):
    size = (100, 70)  # no multiple of any stride
    anchors, _ = anchors_of(generator, size, strides)
    torch.testing.assert_close(anchors, written_out(size, strides, sides), atol=1e-4, rtol=0)


@pytest.mark.parametrize(("dim", "std"), [(256, 0.01), (64, 0.02)])
def test_retinanets_branches_are_drawn_for_their_width(dim, std):
    head = retinanet("atmnet_nano", num_classes=2, dim=dim).head
    for branch in (head.classification_head, head.regression_head):
        drawn = [module.weight.std().item() for module in branch.conv.modules() if isinstance(module, nn.Conv2d)]
        assert drawn == pytest.approx([std] * 4, rel=0.05)


def test_stock_anchors_would_drift_at_the_papers_size():
    """Why there is a class of our own: torchvision's P6 stride at 800 px is 61."""
    assert 800 // math.ceil(800 / 64) == 61
    anchors, maps = anchors_of(RPN(256).anchor_generator, (800, 1280), (4, 8, 16, 32, 64))
    assert anchors[-1, [1, 3]].mean() == 64 * (maps[-1].shape[-2] - 1)


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


def test_boxes_are_as_exact_where_the_network_is_not():
    """Anchors, decoded boxes and pooling places stay float32 in bfloat16, whose numbers are 2 px apart at 300."""
    strides = (8, 16)
    maps = [torch.zeros(1, 1, 64 // s, 64 // s, dtype=torch.bfloat16) for s in strides]
    (anchors,) = FixedStrideAnchors([[20], [40]], strides)(ImageList(torch.zeros(1, 3, 64, 64), [(64, 64)]), maps)
    torch.testing.assert_close(anchors, written_out((64, 64), strides, [[20], [40]]), atol=1e-4, rtol=0)

    boxes = torch.tensor([[301.3, 200.7, 411.1, 305.9]])
    assert (
        BoxCoder((1.0, 1.0, 1.0, 1.0)).decode(torch.zeros(1, 4, dtype=torch.bfloat16), [boxes]).allclose(boxes[:, None])
    )

    maps = {f"p{k}": torch.randn(1, 2, 2 ** (9 - k), 2 ** (9 - k)).bfloat16() for k in range(2, 6)}
    pooled = RoIPool(7)(maps, [boxes], [(512, 512)])
    exact = RoIPool(7)({name: x.float() for name, x in maps.items()}, [boxes], [(512, 512)])
    assert pooled.dtype == torch.bfloat16
    torch.testing.assert_close(pooled.float(), exact, atol=0.01, rtol=0.01)


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


@pytest.mark.parametrize(
    ("shape", "expected"),
    [((480, 640), (800, 1067)), ((640, 480), (1067, 800)), ((427, 640), (800, 1199)), ((300, 1000), (400, 1333))],
)
def test_sizes_are_rounded_as_mmcv_rounds_them(shape, expected):
    transform = DetectorTransform(800, 1333)
    batch, (target,) = transform(
        [torch.zeros(3, *shape)], [{"boxes": torch.zeros(0, 4), "masks": torch.zeros(0, *shape)}]
    )
    assert batch.image_sizes == [expected]
    assert target["size"].tolist() == list(expected)
    assert target["masks"].shape == (0, *expected)
    assert all(side % 32 == 0 for side in batch.tensors.shape[-2:])


def test_training_draws_the_shorter_side_and_moves_masks_to_the_nearest_pixel():
    mask = np.random.default_rng(0).integers(0, 2, (40, 60), np.uint8)
    transform = DetectorTransform((48, 64, 80), 1000).train()
    seen = set()
    for _ in range(30):
        target = {"boxes": torch.tensor([[6.0, 4.0, 30.0, 20.0]]), "masks": torch.from_numpy(mask)[None]}
        batch, (fitted,) = transform([torch.zeros(3, 40, 60)], [target])
        height, width = batch.image_sizes[0]
        expected = cv2.resize(mask, (width, height), interpolation=cv2.INTER_NEAREST)
        assert np.array_equal(fitted["masks"][0].numpy(), expected)
        assert fitted["boxes"][0].tolist() == pytest.approx([6 * width / 60, 4 * height / 40, width / 2, height / 2])
        seen.add((height, width))
    assert seen == {(48, 72), (64, 96), (80, 120)}


# Masks.


def test_masks_are_looked_up_at_pixel_centers_inside_their_boxes():
    """Written out: the center's place in the box, in mask cells whose centers are at .5, between four of them."""
    rng = np.random.default_rng(0)
    masks = rng.random((3, 5, 5)).astype(np.float32)
    boxes = [(2.3, 1.6, 11.2, 7.9), (0.0, 0.0, 3.0, 12.0), (7.5, 3.25, 20.0, 14.0)]
    expected = np.zeros((3, 14, 20))
    for number, (x1, y1, x2, y2) in enumerate(boxes):
        padded = np.pad(masks[number], 1)
        for i in range(14):
            for j in range(20):
                y, x = (i + 0.5 - y1) / (y2 - y1) * 5 + 0.5, (j + 0.5 - x1) / (x2 - x1) * 5 + 0.5  # in the padded mask
                if not (0 <= y < 6 and 0 <= x < 6):
                    continue
                top, left = int(y), int(x)
                a, b = y - top, x - left
                expected[number, i, j] = (1 - a) * ((1 - b) * padded[top, left] + b * padded[top, left + 1]) + a * (
                    (1 - b) * padded[top + 1, left] + b * padded[top + 1, left + 1]
                )
    pasted = paste_masks(torch.from_numpy(masks)[:, None], torch.tensor(boxes), (14, 20))[:, 0].numpy()
    near = np.zeros((3, 14, 20), bool)  # a pixel around the box, as mmdetection draws on a CPU
    for number, (x1, y1, x2, y2) in enumerate(boxes):
        rows, columns = slice(max(0, int(y1) - 1), math.ceil(y2) + 1), slice(max(0, int(x1) - 1), math.ceil(x2) + 1)
        near[number, rows, columns] = True
    np.testing.assert_allclose(pasted, np.where(near, expected, 0), atol=1e-5)
    assert (expected[~near] < 0.5).all()
    assert paste_masks(torch.zeros(0, 1, 28, 28), torch.zeros(0, 4), (14, 20)).shape == (0, 1, 14, 20)


@pytest.mark.parametrize(("smallest", "largest", "least"), [(8, 32, 0.999), (32, 96, 0.970), (96, 300, 0.969)])
def test_true_masks_come_back_from_what_is_learned_of_them(smallest, largest, least):
    """mmdetection's own functions draw the same pixels; torchvision's gave .873, .954 and .982 on masks like these."""
    rng = np.random.default_rng(0)
    shares = []
    while len(shares) < 100:
        mask = np.zeros((320, 320), np.uint8)
        axes = rng.uniform(smallest / 2, largest / 2, 2).astype(int)
        cv2.ellipse(mask, (160, 160), axes.tolist(), rng.uniform(0, 180), 0, 360, 1, -1)
        box = torch.tensor(cv2.boundingRect(mask), dtype=torch.float32)[None]
        if not smallest <= box[:, 2:].max() < largest:
            continue
        box[:, 2:] += box[:, :2]
        target = mask_targets(torch.from_numpy(mask)[None], box, torch.tensor([0]))
        assert set(target.unique().tolist()) <= {0, 1}
        drawn = paste_masks(target[:, None], box, mask.shape)[0, 0].numpy() >= 0.5
        shares.append((drawn & (mask > 0)).sum() / (drawn | (mask > 0)).sum())
    assert np.mean(shares) >= least


# What anchors learn.


def iou(a, b):
    width, height = min(a[2], b[2]) - max(a[0], b[0]), min(a[3], b[3]) - max(a[1], b[1])
    shared = max(width, 0) * max(height, 0)
    return shared / ((a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - shared)


def written_out_matches(anchors, boxes, size, positive, negative, least, border):
    """mmdetection's order: leave anchors out, threshold, then each object in turn takes its best ones."""
    assigned = []
    for x1, y1, x2, y2 in anchors:
        if border is None:
            padded = [math.ceil(side / 32) * 32 for side in size]
            used = (y1 + y2) / 2 < padded[0] - 1e-3 and (x1 + x2) / 2 < padded[1] - 1e-3
        else:
            used = x1 >= -border and y1 >= -border and x2 < size[1] + border and y2 < size[0] + border
        assigned.append(UNUSED if not used else BACKGROUND)
    overlaps = [[round(iou(box, anchor), 6) for anchor in anchors] for box in boxes]  # float32's ties are ties
    used = [k for k, index in enumerate(assigned) if index != UNUSED]
    for k in used:
        highest = max((row[k] for row in overlaps), default=0)
        if highest >= positive:
            assigned[k] = [row[k] for row in overlaps].index(highest)
        elif highest >= negative:
            assigned[k] = UNUSED
    for number, row in enumerate(overlaps):
        best = max(row[k] for k in used)
        for k in used:
            if best >= least and row[k] == best:
                assigned[k] = number
    return assigned


@pytest.mark.parametrize("count", [0, 1, 9])
@pytest.mark.parametrize(
    "settings", [(0.7, 0.3, 0.3, None), (0.7, 0.3, 0.3, 0), (0.5, 0.4, 0.0, None)], ids=["rpn", "cascade", "retinanet"]
)
def test_anchors_learn_what_mmdetections_assigner_says(settings, count):
    rng = np.random.default_rng(count)
    anchors, _ = anchors_of(FixedStrideAnchors([[16, 24], [40]], (8, 16)), (96, 128), (8, 16))  # of the batch
    corners = rng.integers(0, 50, (count, 2))
    boxes = np.concatenate([corners, corners + rng.integers(3, 46, (count, 2))], 1).astype(np.float32)
    size = (70, 90)
    target = {"boxes": torch.from_numpy(boxes), "size": torch.tensor(size)}
    assigned = AnchorMatcher(*settings)(anchors, target).tolist()
    expected = written_out_matches(anchors.tolist(), boxes.tolist(), size, *settings)
    assert assigned == expected
    assert {UNUSED, BACKGROUND} <= set(assigned)
    assert count == 0 or max(assigned) >= 0


def test_an_object_that_no_anchor_meets_is_let_go():
    """A box of 5 px in anchors of 16: IoU under .1."""
    anchors, _ = anchors_of(FixedStrideAnchors([[16]], (8,)), (64, 64), (8,))
    target = {"boxes": torch.tensor([[20.0, 20.0, 25.0, 25.0]]), "size": torch.tensor([64, 64])}
    assert AnchorMatcher(0.7, 0.3, 0.3)(anchors, target).max() == BACKGROUND
    assert AnchorMatcher(0.5, 0.4, 0.0)(anchors, target).max() == 0


def test_images_smaller_than_any_anchor_teach_nothing_where_none_may_overhang():
    anchors, _ = anchors_of(FixedStrideAnchors([[64]], (32,)), (32, 32), (32,))
    target = {"boxes": torch.tensor([[2.0, 2.0, 30.0, 30.0]]), "size": torch.tensor([32, 32])}
    assert (AnchorMatcher(0.7, 0.3, 0.3, border=0)(anchors, target) == UNUSED).all()
