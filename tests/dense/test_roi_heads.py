"""Losses of the box and mask heads against mmdetection's, written out; what they start from."""

import math

import pytest
import torch
from torch import nn

from atmviz.dense import cascade_mask_rcnn, mask_rcnn
from atmviz.dense.roi_heads import MaskPredictor, RoIHeads, mask_targets


def overlap(a, b):
    """IoU and generalised IoU of two boxes."""
    shared = max(min(a[2], b[2]) - max(a[0], b[0]), 0) * max(min(a[3], b[3]) - max(a[1], b[1]), 0)
    union = (a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - shared
    hull = (max(a[2], b[2]) - min(a[0], b[0])) * (max(a[3], b[3]) - min(a[1], b[1]))
    return shared / union, shared / union - (hull - union) / hull


def decoded(box, deltas, stds):
    x1, y1, x2, y2 = box
    dx, dy, dw, dh = (d * s for d, s in zip(deltas, stds, strict=True))
    x, y = (x1 + x2) / 2 + dx * (x2 - x1), (y1 + y2) / 2 + dy * (y2 - y1)
    w, h = (x2 - x1) * math.exp(dw), (y2 - y1) * math.exp(dh)
    return x - w / 2, y - h / 2, x + w / 2, y + h / 2


def encoded(box, true, stds):
    w, h = box[2] - box[0], box[3] - box[1]
    deltas = (
        (true[0] + true[2] - box[0] - box[2]) / 2 / w,
        (true[1] + true[3] - box[1] - box[3]) / 2 / h,
        math.log((true[2] - true[0]) / w),
        math.log((true[3] - true[1]) / h),
    )
    return [d / s for d, s in zip(deltas, stds, strict=True)]


@pytest.fixture
def scene(targets):
    """Maps, proposals (one of them empty) and targets of two images; the second has no object."""
    generator = torch.Generator().manual_seed(0)
    maps = {f"p{k}": torch.randn(2, 32, 2 ** (7 - k) * 3, 2 ** (7 - k) * 4, generator=generator) for k in range(2, 6)}
    moved = targets[0]["boxes"].repeat(6, 1) + torch.randn(12, 4, generator=generator) * 4
    proposals = [torch.cat([moved, torch.tensor([[5.0, 5, 40, 12], [30, 30, 30, 50]])]), moved[:3].clone()]
    proposals = [boxes.clamp(min=0).minimum(torch.tensor([128.0, 96, 128, 96])) for boxes in proposals]
    targets = [{**target, "labels": target["labels"] + 1} for target in targets]
    return maps, proposals, targets


@pytest.mark.parametrize(
    ("giou", "iou", "stds"), [(False, 0.5, (0.1, 0.1, 0.2, 0.2)), (True, 0.7, (0.033, 0.033, 0.067, 0.067))]
)
def test_losses_are_sums_over_objects_by_all_sampled_proposals(giou, iou, stds, scene):
    maps, proposals, targets = scene
    box_head = nn.Sequential(nn.Flatten(), nn.Linear(32 * 49, 128))
    heads = RoIHeads(5, 32, box_head, iou, stds, 1000, giou).train()
    nn.init.normal_(heads.box_predictor.bbox_pred.weight, std=0.1)
    losses, (deltas, scores, sampled, labels) = heads.losses(maps, proposals, [(96, 128)] * 2, targets)
    assert [len(boxes) for boxes in sampled] == [14 + 2, 3]  # all of them, and the true boxes

    deltas, box_loss, class_loss, taught = deltas.view(19, 6, 4).tolist(), 0.0, 0.0, []
    for row, (box, label) in enumerate(zip(torch.cat(sampled).tolist(), torch.cat(labels).tolist(), strict=True)):
        overlaps = [overlap(box, true)[0] for true in targets[0]["boxes"].tolist()] if row < 16 else [0.0]
        number = overlaps.index(max(overlaps))
        assert label == (targets[0]["labels"][number] if overlaps[number] >= iou else 0)
        class_loss -= scores[row].log_softmax(0)[label].item()
        if label:
            true = targets[0]["boxes"][number].tolist()
            taught.append((row, number, label))
            if giou:
                box_loss += 10 * (1 - overlap(decoded(box, deltas[row][label], stds), true)[1])
            else:
                box_loss += sum(abs(a - b) for a, b in zip(deltas[row][label], encoded(box, true, stds), strict=True))
    assert 2 < len(taught) < 16
    assert losses["loss_classifier"].item() == pytest.approx(class_loss / 19, rel=1e-4)
    assert losses["loss_box_reg"].item() == pytest.approx(box_loss / 19, rel=1e-4)

    rows, numbers, classes = (torch.tensor(values) for values in zip(*taught, strict=True))
    boxes = torch.cat(sampled)[rows]
    logits = heads.mask_predictor(heads.mask_head(heads.mask_roi_pool(maps, [boxes, boxes[:0]], [(96, 128)] * 2)))
    share = logits[torch.arange(len(rows)), classes].sigmoid()
    truth = mask_targets(targets[0]["masks"], boxes, numbers)
    cross = -(truth * share.log() + (1 - truth) * (1 - share).log())
    assert losses["loss_mask"].item() == pytest.approx(cross.mean().item(), rel=1e-4)


def test_without_objects_boxes_and_masks_have_loss_0(scene):
    maps, proposals, targets = scene
    heads = mask_rcnn("atmnet_nano", num_classes=5, dim=32).roi_heads.train()
    losses, _ = heads.losses(maps, [proposals[1]] * 2, [(96, 128)] * 2, targets[1:] * 2)
    assert (losses["loss_box_reg"].item(), losses["loss_mask"].item()) == (0, 0)
    assert losses["loss_classifier"] > 0
    sum(losses.values()).backward()
    assert all(parameter.grad is not None for parameter in heads.parameters())


def test_masks_to_learn_are_the_majority_of_each_cells_pixels():
    """Boxes of whole cells: a cell of 2 x 3 px is 1 from three of its pixels on; nothing moves by half a pixel."""
    masks = torch.randint(0, 2, (3, 120, 120), dtype=torch.uint8)
    boxes = torch.tensor([[4.0, 8.0, 4 + 28 * 3, 8 + 28 * 2], [0.0, 0.0, 28.0, 28.0]])
    targets = mask_targets(masks, boxes, torch.tensor([2, 0]))
    cells = masks[2, 8 : 8 + 56, 4 : 4 + 84].float().view(28, 2, 28, 3).mean((1, 3))
    assert torch.equal(targets[0], (cells >= 0.5).float())
    assert torch.equal(targets[1], masks[0, :28, :28].float())
    assert mask_targets(masks[:0], boxes[:0], torch.zeros(0, dtype=torch.int64)).shape == (0, 28, 28)


def test_linear_layers_of_box_heads_start_xavier_uniform_and_masks_without_bias():
    for model in (
        mask_rcnn("atmnet_nano", num_classes=5, dim=64),
        cascade_mask_rcnn("atmnet_nano", num_classes=5, dim=64),
    ):
        layers = [
            layer
            for name, layer in model.roi_heads.named_modules()
            if isinstance(layer, nn.Linear) and "predictor" not in name
        ]
        assert len(layers) in (2, 3)
        for layer in layers:
            bound = (6 / (layer.in_features + layer.out_features)) ** 0.5
            assert layer.weight.abs().max().item() == pytest.approx(bound, rel=0.01)
            assert layer.weight.std().item() == pytest.approx(bound / 3**0.5, rel=0.02)
            assert (layer.bias == 0).all()
    predictor = MaskPredictor(64, 5)
    assert all((layer.bias == 0).all() for layer in (predictor.conv5_mask, predictor.mask_fcn_logits))
