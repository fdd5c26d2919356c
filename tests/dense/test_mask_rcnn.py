"""The RPN's losses and proposals against mmdetection's, written out."""

import math

import pytest
import torch

from atmviz.dense.mask_rcnn import RPN


def encoded(anchor, true):
    w, h = anchor[2] - anchor[0], anchor[3] - anchor[1]
    return (
        (true[0] + true[2] - anchor[0] - anchor[2]) / 2 / w,
        (true[1] + true[3] - anchor[1] - anchor[3]) / 2 / h,
        math.log((true[2] - true[0]) / w),
        math.log((true[3] - true[1]) / h),
    )


@pytest.mark.parametrize("beta", [0.0, 1 / 9])
def test_losses_are_divided_by_the_sampled_anchors_of_the_batch(beta):
    """An image without objects counts one more, as in mmdetection. With beta, differences up to it are squared."""
    rpn = RPN(8, beta=beta)
    boxes = torch.tensor([[10.0, 10.0, 40.0, 44.0], [30.0, 5.0, 70.0, 30.0]])
    targets = [{"boxes": boxes, "size": torch.tensor([64, 96])}, {"boxes": boxes[:0], "size": torch.tensor([64, 96])}]
    anchors = torch.tensor(
        [
            [9.0, 9, 41, 45],
            [28.0, 4, 72, 30],
            [60.0, 40, 92, 60],
            [12.0, 4, 40, 36],
            [30.0, 8, 62, 40],
            [0.0, 0, 32, 32],
        ]
    )
    labels, matched = rpn.assign_targets_to_anchors([anchors, anchors], targets)
    assert labels[0].tolist() == [1, 1, 0, -1, -1, -1]
    assert labels[1].tolist() == [0] * 6
    assert torch.equal(matched[0][:2], boxes)

    scores, deltas = torch.randn(12, 1), torch.randn(12, 4) * 0.2
    objectness, regression = rpn.compute_loss(scores, deltas, labels, rpn.box_coder.encode(matched, [anchors, anchors]))
    count = (2 + 1) + (1 + 6)
    expected = sum(math.log1p(math.exp(-scores[k])) for k in (0, 1))
    expected += sum(math.log1p(math.exp(scores[k])) for k in (2, *range(6, 12)))
    assert objectness.item() == pytest.approx(expected / count, rel=1e-5)
    errors = [
        abs(a - b)
        for k in (0, 1)
        for a, b in zip(deltas[k].tolist(), encoded(anchors[k].tolist(), boxes[k].tolist()), strict=True)
    ]
    losses = [e - beta / 2 if e >= beta else e**2 / (2 * beta) for e in errors]
    assert regression.item() == pytest.approx(sum(losses) / count, rel=1e-4)


def test_empty_proposals_stay():
    """mmdetection's min_bbox_size is 0; torchvision leaves out what is under a thousandth of a pixel."""
    rpn = RPN(8).eval()
    proposals = torch.tensor([[[5.0, 5.0, 5.0, 30.0], [10.0, 10.0, 40.0, 40.0]]])
    kept, _ = rpn.filter_proposals(proposals, torch.tensor([[2.0], [1.0]]), [(64, 64)], [2])
    assert torch.equal(kept[0], proposals[0])
