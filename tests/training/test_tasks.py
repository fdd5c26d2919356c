"""What is trained: losses against their definition, and the head that only training has."""

import pytest
import torch
import torch.nn.functional as F

from atmviz.models import create_model
from atmviz.training.recipe import Recipe
from atmviz.training.tasks import ClassificationTask, PixelHead, classification_loss


def batch(size=64):
    return {
        "image": torch.randn(4, 3, size, size),
        "label": torch.tensor([0, 1, 2, 3]),
        "mask": torch.randint(0, 11, (4, size, size), dtype=torch.uint8),
    }


def test_the_plain_loss_is_the_cross_entropy_of_the_networks_scores(nano):
    logged = ClassificationTask(nano, Recipe())(batch := {"image": torch.randn(4, 3, 32, 32), "label": torch.arange(4)})
    scores = nano(batch["image"])
    torch.testing.assert_close(logged["loss"], F.cross_entropy(scores, batch["label"]))
    assert logged["top1"] == 100 * (scores.argmax(1) == batch["label"]).float().mean()


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_label_smoothing_is_pytorchs(smoothing):
    scores, labels = torch.randn(6, 5), torch.arange(6) % 5
    expected = F.cross_entropy(scores, labels, label_smoothing=smoothing)
    torch.testing.assert_close(classification_loss(Recipe(label_smoothing=smoothing))(scores, labels), expected)


def test_soft_labels_of_mixup_have_their_loss():
    scores, soft = torch.randn(6, 5), torch.rand(6, 5).softmax(1)
    loss = classification_loss(Recipe(mixup=0.8, label_smoothing=0.1))
    torch.testing.assert_close(loss(scores, soft), F.cross_entropy(scores, soft))


def test_the_pixel_loss_is_added_and_the_network_keeps_its_scores(nano):
    torch.manual_seed(1)
    network = create_model("atmnet_nano", num_classes=10).eval()
    data = batch()
    task = ClassificationTask(network, Recipe(pixel_weight=2.0))
    scores = network(data["image"])
    pixels = task.pixel_head(network.forward_intermediates(data["image"], intermediates_only=True))
    assert pixels.shape == (4, 11, 16, 16)
    weights = torch.tensor([0.15] + [1.0] * 10)
    pixel_loss = F.cross_entropy(pixels, data["mask"][:, 2::4, 2::4].long(), weights)
    torch.testing.assert_close(task(data)["loss"], F.cross_entropy(scores, data["label"]) + 2 * pixel_loss)
    assert not [name for name in task.state_dict() if "weights" in name]


def test_the_pixel_head_sums_the_maps_where_they_lie():
    head = PixelHead([4, 8], 3)
    maps = [torch.randn(1, 4, 8, 6), torch.randn(1, 8, 4, 3)]
    fine, coarse = (
        linear(norm(x.permute(0, 2, 3, 1))).permute(0, 3, 1, 2)
        for x, norm, linear in zip(maps, head.norms, head.linears, strict=True)
    )
    total = fine + F.interpolate(coarse, scale_factor=2, mode="nearest")
    expected = head.classifier(F.gelu(total).permute(0, 2, 3, 1)).permute(0, 3, 1, 2)
    torch.testing.assert_close(head(maps), expected)


def test_no_weight_decay_on_norms_biases_and_peg_under_the_tasks_names(nano):
    task = ClassificationTask(nano, Recipe())
    expected = {
        name for name, _ in task.named_parameters() if ".norm" in name or name.endswith(".bias") or ".peg." in name
    }
    assert task.no_weight_decay() == expected
    assert ClassificationTask(nano, Recipe(decay="all")).no_weight_decay() == set()
