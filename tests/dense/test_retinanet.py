"""RetinaNet's losses against mmdetection's, written out."""

import math

import numpy as np
import pytest
import torch

from atmviz.dense import retinanet
from atmviz.dense.detector import UNUSED

CLASSES = 3


def target_of(count, seed):
    rng = np.random.default_rng(seed)
    corners = rng.uniform(0, 60, (count, 2))
    boxes = np.concatenate([corners, corners + rng.uniform(12, 60, (count, 2))], 1)
    return {
        "boxes": torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4),
        "labels": torch.from_numpy(rng.integers(0, CLASSES, count)),
        "size": torch.tensor([128, 128]),
    }


def written_out(model, targets, logits, deltas, anchors):
    """Focal loss (alpha .25, gamma 2) of every anchor that counts, L1 of the positive ones, by all positive ones."""
    class_loss = box_loss = positives = 0.0
    for image, target in enumerate(targets):
        assigned = model.proposal_matcher(anchors, target).tolist()
        positives += max(1, sum(index >= 0 for index in assigned))
        for k, number in enumerate(assigned):
            if number == UNUSED:
                continue
            for label in range(CLASSES):
                share = 1 / (1 + math.exp(-logits[image, k, label]))
                if number >= 0 and target["labels"][number] == label:
                    class_loss -= 0.25 * (1 - share) ** 2 * math.log(share)
                else:
                    class_loss -= 0.75 * share**2 * math.log(1 - share)
            if number >= 0:
                (x1, y1, x2, y2), (left, top, right, bottom) = target["boxes"][number].tolist(), anchors[k].tolist()
                true = (
                    (x1 + x2 - left - right) / 2 / (right - left),
                    (y1 + y2 - top - bottom) / 2 / (bottom - top),
                    math.log((x2 - x1) / (right - left)),
                    math.log((y2 - y1) / (bottom - top)),
                )
                box_loss += sum(abs(p - q) for p, q in zip(deltas[image, k].tolist(), true, strict=True))
    return class_loss / positives, box_loss / positives


@pytest.mark.parametrize("counts", [(7, 2), (5, 0), (0, 0)])
def test_losses_are_divided_by_the_positive_anchors_of_the_batch(counts):
    model = retinanet("atmnet_nano", num_classes=CLASSES, dim=32)
    maps = [torch.zeros(2, 1, 128 // s, 128 // s) for s in (8, 16, 32, 64, 128)]
    model.anchor_generator.set_cell_anchors(torch.float32, "cpu")
    anchors = torch.cat(
        model.anchor_generator.grid_anchors([x.shape[-2:] for x in maps], [[s, s] for s in (8, 16, 32, 64, 128)])
    )
    targets = [target_of(count, seed) for seed, count in enumerate(counts)]
    outputs = {
        "cls_logits": torch.randn(2, len(anchors), CLASSES) - 1,
        "bbox_regression": torch.randn(2, len(anchors), 4),
    }
    losses = model.compute_loss(targets, outputs, [anchors, anchors])
    expected = written_out(model, targets, outputs["cls_logits"], outputs["bbox_regression"], anchors)
    assert losses["classification"].item() == pytest.approx(expected[0], rel=1e-4)
    assert losses["bbox_regression"].item() == pytest.approx(expected[1], rel=1e-4)

    alone = [
        model.compute_loss([target], {name: x[i : i + 1] for name, x in outputs.items()}, [anchors])[
            "classification"
        ].item()
        for i, target in enumerate(targets)
    ]
    if counts == (7, 2):  # the mean over images, which weighs the objects of the emptier one more
        assert abs(sum(alone) / 2 / expected[0] - 1) > 0.05
