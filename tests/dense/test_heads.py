"""Every head with both necks: it learns with all its parameters, and gives what its kind gives."""

import pytest
import torch
from torchvision.models import detection

from atmviz.architecture import HEAD_TASKS, Architecture
from atmviz.dense import create_network, mask_rcnn, semantic_fpn
from atmviz.errors import AtmvizError
from atmviz.models import create_model
from atmviz.observe import find_sites, forward_to_sites, observing

NECKS = ["fpn", "atmfpn"]
SEGMENTERS = [name for name, task in HEAD_TASKS.items() if task == "segment"]
DETECTORS = [name for name, task in HEAD_TASKS.items() if task == "detect"]


def build(head, neck="fpn", **kwargs):
    torch.manual_seed(0)
    if head in DETECTORS:
        kwargs = {"min_size": 96, "max_size": 160, **kwargs}
    model = create_network(Architecture("atmnet_nano", head, neck), num_classes=5, **kwargs)
    if hasattr(model, "rpn"):  # 1000 proposals take a minute
        model.rpn._post_nms_top_n = {"training": 40, "testing": 40}
    return model


def unused(model, losses):
    sum(losses.values()).backward()
    return [name for name, parameter in model.named_parameters() if parameter.grad is None]


@pytest.mark.parametrize("neck", NECKS)
@pytest.mark.parametrize("head", SEGMENTERS)
def test_segmenters_score_every_pixel_and_learn_with_every_parameter(head, neck, images, labels):
    model = build(head, neck)
    losses = model.train()(images, labels)
    assert set(losses) == {"loss_segment", "loss_auxiliary"} - ({"loss_auxiliary"} if head != "upernet" else set())
    assert unused(model, losses) == []
    with torch.inference_mode():
        assert model.eval()(images).shape == (2, 5, 96, 128)


@pytest.mark.parametrize("neck", NECKS)
@pytest.mark.parametrize("head", DETECTORS)
def test_detectors_find_boxes_and_learn_with_every_parameter(head, neck, images, targets):
    model = build(head, neck)
    losses = model.train()(list(images), targets)
    assert all(loss.isfinite() for loss in losses.values())
    assert unused(model, losses) == []
    assert targets[0]["labels"].tolist() == [0, 4]  # not changed
    for heads in model.modules():
        if isinstance(heads, detection.roi_heads.RoIHeads):
            heads.score_thresh = 0.0  # an untrained network is sure of nothing
    if head == "retinanet":
        model.score_thresh = 0.0
    with torch.inference_mode():
        detections = model.eval()(list(images))
    for image in detections:
        assert 0 < len(image["boxes"]) <= 100
        assert set(image["labels"].tolist()) <= set(range(5))
        assert (image["boxes"] >= 0).all()
        assert (image["boxes"] <= torch.tensor([128, 96, 128, 96])).all()
        if head != "retinanet":
            assert image["masks"].shape == (len(image["boxes"]), 1, 96, 128)


@pytest.mark.parametrize("head", DETECTORS)
def test_batches_without_any_object_have_a_loss(head, images, targets):
    losses = build(head).train()(list(images[1:]), targets[1:])
    assert all(loss.isfinite() for loss in losses.values())


@pytest.mark.parametrize("head", SEGMENTERS)
def test_batches_that_are_ignored_as_a_whole_have_loss_0(head, images, labels):
    losses = build(head).train()(images, torch.full_like(labels, 255))
    assert [loss.item() for loss in losses.values()] == [0] * len(losses)


@pytest.mark.parametrize("neck", NECKS)
@pytest.mark.parametrize("head", HEAD_TASKS)
def test_offsets_inside_a_dense_network_are_those_of_the_backbone_alone(head, neck, images):
    model = build(head, neck).eval()
    alone = create_model("atmnet_nano", features_only=True, out_norms=True).eval()
    body = model.backbone.body if head != "upernet" else model.backbone
    missing = alone.load_state_dict(body.state_dict(), strict=False)
    assert missing.unexpected_keys == []
    assert [name for name in missing.missing_keys if not name.startswith("model.out_norms.0")] == []
    recorded = []
    for network in (model, alone):
        with observing(network) as observed, torch.inference_mode():
            forward_to_sites(network, images)
        recorded.append(observed)
    for name, offset in recorded[1].offsets.items():
        assert torch.equal(recorded[0].offsets[name], offset)
    units = [site.name for site in find_sites(model) if site.name.startswith("fpn")]
    levels = {"upernet": range(2, 5), "retinanet": range(3, 6)}.get(head, range(2, 6))
    assert units == ([f"fpn_{kind}{level}" for kind in "cp" for level in levels] if neck == "atmfpn" else [])


@pytest.mark.parametrize("backbone", ["resnet50", "swin_tiny_patch4_window7_224"])
def test_other_timm_backbones_stand_under_them(backbone, images):
    with torch.device("meta"):
        model = semantic_fpn(backbone, "atmfpn", num_classes=5).eval()
        assert model(images.to("meta")).shape == (2, 5, 96, 128)
        assert find_sites(model)[-1].name == "fpn_p5"


def test_swin_takes_images_of_any_size():
    """Table 7's other backbone pads to whole patches of 4 px, as mmdetection has it."""
    with torch.device("meta"):
        model = semantic_fpn("swin_tiny_patch4_window7_224", num_classes=5).eval()
        assert model(torch.rand(1, 3, 66, 97, device="meta")).shape == (1, 5, 66, 97)


def test_upernet_says_how_to_get_its_library(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "transformers", None)
    with pytest.raises(AtmvizError, match=r"pip install 'atmviz\[upernet\]'"):
        build("upernet")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("atmnet_tiny", Architecture("atmnet_tiny")),
        ("semantic_fpn(atmnet_tiny)", Architecture("atmnet_tiny", "semantic_fpn")),
        ("mask_rcnn(resnet50, atmfpn)", Architecture("resnet50", "mask_rcnn", "atmfpn")),
    ],
)
def test_names_round_trip(text, expected):
    assert Architecture.parse(text) == expected
    assert str(expected) == text


@pytest.mark.parametrize(
    "text", ["", "semantic_fpn(", "fcn(atmnet_tiny)", "semantic_fpn(atmnet_tiny, bifpn)", "a b", "x, fpn"]
)
def test_names_that_mean_nothing_are_refused(text):
    with pytest.raises(AtmvizError, match="expected a"):
        Architecture.parse(text)


def test_masks_are_drawn_by_two_stage_detectors_only():
    assert mask_rcnn("atmnet_nano", num_classes=5).roi_heads.has_mask()
