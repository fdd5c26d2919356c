"""Segmentation metrics against a written-out mIoU, and views at several scales."""

import numpy as np
import pytest
import torch

from atmviz.architecture import IGNORE_INDEX
from atmviz.data.segmentation import open_segmentation
from atmviz.errors import CheckpointError
from atmviz.statistics.paired import miou_draws
from atmviz.training import evaluators
from atmviz.training.evaluate import MULTI_SCALES, evaluate_network
from atmviz.training.evaluators import SegmentationEvaluator, segment, segmentation_scores


def written_out(predicted, mask, classes):
    """mIoU, mAcc and aAcc, class by class."""
    counted = mask != IGNORE_INDEX
    ious, accuracies = [], []
    for k in range(classes):
        both = np.sum(counted & (predicted == k) & (mask == k))
        true, claimed = np.sum(counted & (mask == k)), np.sum(counted & (predicted == k))
        if true + claimed:
            ious.append(both / (true + claimed - both))
        if true:
            accuracies.append(both / true)
    return 100 * np.mean(ious), 100 * np.mean(accuracies), 100 * np.sum(counted & (predicted == mask)) / counted.sum()


@pytest.mark.parametrize("seed", range(3))
def test_segmentation_scores_are_those_of_the_written_out_formula(seed):
    rng = np.random.default_rng(seed)
    classes = 9
    mask = rng.integers(0, 6, (4, 30, 40))  # class 7 is only predicted, class 8 neither there nor predicted
    predicted = np.where(rng.random(mask.shape) < 0.6, mask, rng.integers(0, 8, mask.shape))
    mask[rng.random(mask.shape) < 0.1] = IGNORE_INDEX
    metric = SegmentationEvaluator(classes)
    for one, true in zip(predicted, mask, strict=True):
        metric.count(torch.from_numpy(one), torch.from_numpy(true.astype(np.uint8)))
    confusion = metric.confusion()
    assert confusion.sum() == np.sum(mask != IGNORE_INDEX)
    scores = segmentation_scores(confusion)
    assert list(scores) == ["miou", "macc", "aacc"]
    assert list(scores.values()) == pytest.approx(written_out(predicted, mask, classes), abs=1e-9)
    values = metric.per_class()
    assert [np.nanmean(values["iou"]), np.nanmean(values["acc"])] == pytest.approx([scores["miou"], scores["macc"]])
    right = np.sum((predicted == 2) & (mask == 2))
    assert values["iou"][2] == pytest.approx(100 * right / (confusion[2].sum() + confusion[:, 2].sum() - right))
    assert values["acc"][2] == pytest.approx(100 * right / confusion[2].sum())
    assert (values["iou"][7], np.isnan(values["acc"][7])) == (0, True), "only predicted"
    assert np.isnan([values["iou"][8], values["acc"][8]]).all(), "neither there nor predicted"


def test_the_overlaps_of_images_add_up_to_the_miou():
    rng = np.random.default_rng(0)
    mask = torch.from_numpy(rng.integers(0, 6, (4, 30, 40)).astype(np.uint8))
    predicted = torch.where(torch.from_numpy(rng.random(mask.shape) < 0.6), mask, 7).long()
    mask[:, 0] = IGNORE_INDEX
    metric = SegmentationEvaluator(9, by_image=True)
    metric.count(predicted[:3], mask[:3])
    metric.count(predicted[3:], mask[3:])
    outcomes = metric.outcomes()
    assert outcomes.unions.shape == (4, 9)
    assert miou_draws(outcomes, np.ones((1, 4))) == pytest.approx(metric.metrics()["miou"], abs=1e-9)
    alone = written_out(predicted[1].numpy(), mask[1].numpy(), 9)[0]
    assert miou_draws(outcomes, np.eye(4))[1] == pytest.approx(alone, abs=1e-9)


def test_images_that_do_not_count_have_no_scores():
    metric = SegmentationEvaluator(3)
    metric.count(torch.zeros(4, 4, dtype=torch.int64), torch.full((4, 4), IGNORE_INDEX, dtype=torch.uint8))
    assert all(np.isnan(value) for value in segmentation_scores(metric.confusion()).values())


class Scores(torch.nn.Module):
    """Scores that say where a network was asked: the class whose brightness a pixel has."""

    def __init__(self):
        super().__init__()
        self.sizes = []
        self.unused = torch.nn.Parameter(torch.zeros(1))

    def forward(self, x):
        self.sizes.append(tuple(x.shape[-2:]))
        return torch.stack([-((x[:, 0] - k) ** 2) for k in (0.0, 1.0)], 1)


def test_views_and_their_mirrors_are_averaged_at_the_size_of_the_labels():
    network = Scores()
    left = torch.zeros(1, 3, 8, 12)
    left[..., :6] = 1
    views = [torch.nn.functional.interpolate(left, scale_factor=s) for s in (1, 2)]
    segmented = segment(network, views, (8, 12), flip=True, classes=2)
    assert network.sizes == [(8, 12), (8, 12), (16, 24), (16, 24)]
    assert torch.equal(segmented, left[:, 0].long())
    with pytest.raises(CheckpointError, match="got a network of 2 classes for a dataset of 3"):
        segment(network, views, (8, 12), flip=False, classes=3)


def test_multi_scale_evaluation_takes_six_scales_and_their_mirrors(monkeypatch):
    asked = []

    def forward_to_sites(network, view):
        asked.append(tuple(view.shape[-2:]))
        return torch.zeros(len(view), 11, *view.shape[-2:])

    monkeypatch.setattr(evaluators, "forward_to_sites", forward_to_sites)
    dataset = open_segmentation("shapes", "val", 64, scales=MULTI_SCALES)
    evaluate_network(Scores(), dataset, limit=1, multi_scale=True)
    assert asked == [(side, side) for side in (32, 48, 64, 80, 96, 112) for _ in range(2)]
