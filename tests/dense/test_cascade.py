"""Cascade Mask R-CNN has the settings of Swin's configuration, and its stages start from each other's boxes."""

import pytest
import torch

from atmviz.dense import cascade_mask_rcnn, mask_rcnn
from atmviz.dense.cascade import _refine


def test_settings_are_those_of_swins_giou_4conv1f():
    model = cascade_mask_rcnn("atmnet_nano", num_classes=5, dim=32)
    assert model.rpn._post_nms_top_n == {"training": 2000, "testing": 1000}
    assert (model.rpn.matcher.border, model.rpn.beta) == (0, 1 / 9)
    assert all(heads.giou for heads in model.roi_heads.stages)
    single = mask_rcnn("atmnet_nano", num_classes=5, dim=32)
    assert single.rpn._post_nms_top_n == {"training": 1000, "testing": 1000}
    assert (single.rpn.matcher.border, single.rpn.beta, single.roi_heads.giou) == (None, 0, False)


@pytest.mark.parametrize(("stage", "std"), [(0, 0.1), (1, 0.05), (2, 0.033)])
def test_boxes_move_by_their_deltas_times_the_stages_deviation(stage, std):
    heads = cascade_mask_rcnn("atmnet_nano", num_classes=2, dim=32).roi_heads.stages[stage]
    deltas, scores = torch.zeros(2, 12), torch.tensor([[9.0, 0.0, 1.0], [9.0, 1.0, 0.0]])
    deltas[0, 8], deltas[1, 4] = 2.0, -1.0  # of the likelier class, background aside
    (moved,) = _refine(heads, deltas, scores, [torch.tensor([[20.0, 20.0, 60.0, 40.0]] * 2)], [(64, 96)])
    assert moved[:, 0].tolist() == pytest.approx([20 + 2 * std * 40, 20 - std * 40])
    assert moved[:, 1].tolist() == [20, 20]


def test_losses_have_the_stages_weights(images, targets):
    """1, 1/2 and 1/4: stages with the same layers, proposals and thresholds differ by no more."""
    model = cascade_mask_rcnn("atmnet_nano", num_classes=5, dim=32, min_size=96, max_size=160).train()
    model.rpn._post_nms_top_n = {"training": 40, "testing": 40}
    for heads in model.roi_heads.stages[1:]:
        heads.load_state_dict(model.roi_heads.stages[0].state_dict())
    for heads in model.roi_heads.stages:
        heads.box_coder, heads.proposal_matcher = (
            getattr(model.roi_heads.stages[0], n) for n in ("box_coder", "proposal_matcher")
        )
        torch.nn.init.zeros_(heads.box_predictor.bbox_pred.weight)  # boxes stay
        torch.nn.init.zeros_(heads.box_predictor.cls_score.weight)
    losses = model(list(images), targets)
    assert losses["loss_classifier_1"].item() == pytest.approx(torch.tensor(6.0).log().item())
    assert losses["loss_classifier_2"].item() == pytest.approx(losses["loss_classifier_1"].item() / 2)
    assert losses["loss_classifier_3"].item() == pytest.approx(losses["loss_classifier_1"].item() / 4)
