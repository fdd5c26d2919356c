"""Whole files of mmsegmentation 0.11 and mmdetection 2.11: names and shapes written down here from their wheels."""

import json
import sys
from pathlib import Path

import pytest
import torch

from atmviz.checkpoints import convert_checkpoint, load_model
from atmviz.dense import create_network
from atmviz.errors import AtmvizError, CheckpointError

RELEASED = json.loads((Path(__file__).parents[1] / "data" / "released_layouts.json").read_text())["xtiny"]
DIMS = (64, 128, 320, 512)


def conv(name, out_dim, in_dim, size, bias=True):
    return {f"{name}.weight": [out_dim, in_dim, size, size]} | ({f"{name}.bias": [out_dim]} if bias else {})


def linear(name, out_dim, in_dim):
    return {f"{name}.weight": [out_dim, in_dim], f"{name}.bias": [out_dim]}


def conv_bn(name, out_dim, in_dim, size):
    parts = ("weight", "bias", "running_mean", "running_var")
    bn = {f"{name}.bn.{part}": [out_dim] for part in parts} | {f"{name}.bn.num_batches_tracked": []}
    return conv(f"{name}.conv", out_dim, in_dim, size, bias=False) | bn


def merged(*layouts):
    return {name: shape for layout in layouts for name, shape in layout.items()}


def backbone():
    stem = {name: shape for name, shape in RELEASED.items() if not name.startswith(("norm.", "head."))}
    norms = {f"norm_{i}.{part}": [dim] for i, dim in enumerate(DIMS) for part in ("weight", "bias")}
    return {f"backbone.{name}": shape for name, shape in merged(stem, norms).items()}


def fpn(dims, outputs):
    laterals = [conv(f"neck.lateral_convs.{i}.conv", 256, dim, 1) for i, dim in enumerate(dims)]
    return merged(*laterals, *(conv(f"neck.fpn_convs.{i}.conv", 256, 256, 3) for i in range(outputs)))


def upernet():
    head = "decode_head"
    pools = [conv_bn(f"{head}.psp_modules.{i}.1", 512, 512, 1) for i in range(4)]
    laterals = [conv_bn(f"{head}.lateral_convs.{i}", 512, dim, 1) for i, dim in enumerate(DIMS[:3])]
    outputs = [conv_bn(f"{head}.fpn_convs.{i}", 512, 512, 3) for i in range(3)]
    ends = [conv_bn(f"{head}.bottleneck", 512, 5 * 512, 3), conv_bn(f"{head}.fpn_bottleneck", 512, 4 * 512, 3)]
    auxiliary = [conv_bn("auxiliary_head.convs.0", 256, 320, 3), conv("auxiliary_head.conv_seg", 7, 256, 1)]
    return merged(backbone(), *pools, *laterals, *outputs, *ends, conv(f"{head}.conv_seg", 7, 512, 1), *auxiliary)


def semantic_fpn():
    heads = [
        conv_bn(f"decode_head.scale_heads.{level}.{2 * step}", 128, 128 if step else 256, 3)
        for level in range(4)
        for step in range(max(1, level))
    ]
    return merged(backbone(), fpn(DIMS, 4), *heads, conv("decode_head.conv_seg", 7, 128, 1))


def retinanet():
    neck = merged(
        fpn(DIMS[1:], 3), conv("neck.fpn_convs.3.conv", 256, 512, 3), conv("neck.fpn_convs.4.conv", 256, 256, 3)
    )
    towers = [conv(f"bbox_head.{kind}_convs.{i}.conv", 256, 256, 3) for kind in ("cls", "reg") for i in range(4)]
    ends = [conv("bbox_head.retina_cls", 9 * 7, 256, 3), conv("bbox_head.retina_reg", 9 * 4, 256, 3)]
    return merged(backbone(), neck, *towers, *ends)


def rpn():
    ends = conv("rpn_head.rpn_cls", 3, 256, 1) | conv("rpn_head.rpn_reg", 12, 256, 1)
    return conv("rpn_head.rpn_conv", 256, 256, 3) | ends


def mask_head(name):
    convs = [conv(f"{name}.convs.{i}.conv", 256, 256, 3) for i in range(4)]
    return merged(*convs, conv(f"{name}.upsample", 256, 256, 2), conv(f"{name}.conv_logits", 7, 256, 1))


def mask_rcnn():
    name = "roi_head.bbox_head"
    fcs = [linear(f"{name}.shared_fcs.0", 1024, 256 * 49), linear(f"{name}.shared_fcs.1", 1024, 1024)]
    ends = [linear(f"{name}.fc_cls", 8, 1024), linear(f"{name}.fc_reg", 28, 1024)]
    return merged(backbone(), fpn(DIMS, 4), rpn(), *fcs, *ends, mask_head("roi_head.mask_head"))


def cascade_mask_rcnn():
    stages = []
    for i in range(3):
        name = f"roi_head.bbox_head.{i}"
        stages += [conv_bn(f"{name}.shared_convs.{j}", 256, 256, 3) for j in range(4)]
        stages += [linear(f"{name}.shared_fcs.0", 1024, 256 * 49)]
        stages += [linear(f"{name}.fc_cls", 8, 1024), linear(f"{name}.fc_reg", 28, 1024)]
        stages += [mask_head(f"roi_head.mask_head.{i}")]
    return merged(backbone(), fpn(DIMS, 4), rpn(), *stages)


LAYOUTS = {build.__name__: build() for build in (upernet, semantic_fpn, retinanet, mask_rcnn, cascade_mask_rcnn)}
# Some of theirs and ours, one or more of every part.
LANDED = {
    "upernet": {
        "backbone.blocks.2.0.offset_layer.1.weight": "backbone.model.stages.2.blocks.0.offset.linear.weight",
        "backbone.norm_3.bias": "backbone.model.out_norms.3.bias",
        "decode_head.psp_modules.1.1.bn.running_var": "head.psp_modules.1.1.batch_norm.running_var",
        "decode_head.fpn_bottleneck.conv.weight": "head.fpn_bottleneck.conv.weight",
        "decode_head.conv_seg.bias": "head.classifier.bias",
        "auxiliary_head.conv_seg.weight": "auxiliary_head.classifier.weight",
    },
    "semantic_fpn": {
        "backbone.norm_0.weight": "backbone.body.model.out_norms.0.weight",
        "neck.lateral_convs.2.conv.bias": "backbone.neck.inner_blocks.2.0.bias",
        "neck.fpn_convs.3.conv.weight": "backbone.neck.layer_blocks.3.0.weight",
        "decode_head.scale_heads.3.4.conv.weight": "head.scale_heads.3.4.0.weight",
        "decode_head.scale_heads.2.2.bn.running_mean": "head.scale_heads.2.2.1.running_mean",
        "decode_head.conv_seg.weight": "head.classifier.weight",
    },
    "retinanet": {
        "neck.lateral_convs.0.conv.weight": "backbone.neck.inner_blocks.0.0.weight",
        "neck.fpn_convs.2.conv.bias": "backbone.neck.layer_blocks.2.0.bias",
        "neck.fpn_convs.3.conv.weight": "backbone.neck.extra_blocks.p6.weight",
        "neck.fpn_convs.4.conv.bias": "backbone.neck.extra_blocks.p7.bias",
        "bbox_head.cls_convs.3.conv.bias": "head.classification_head.conv.3.0.bias",
        "bbox_head.reg_convs.0.conv.weight": "head.regression_head.conv.0.0.weight",
        "bbox_head.retina_cls.weight": "head.classification_head.cls_logits.weight",
        "bbox_head.retina_reg.bias": "head.regression_head.bbox_reg.bias",
    },
    "mask_rcnn": {
        "rpn_head.rpn_conv.weight": "rpn.head.conv.0.0.weight",
        "rpn_head.rpn_reg.bias": "rpn.head.bbox_pred.bias",
        "roi_head.bbox_head.shared_fcs.1.weight": "roi_heads.box_head.fc7.weight",
        "roi_head.bbox_head.fc_reg.weight": "roi_heads.box_predictor.bbox_pred.weight",
        "roi_head.mask_head.convs.2.conv.bias": "roi_heads.mask_head.2.0.bias",
        "roi_head.mask_head.upsample.weight": "roi_heads.mask_predictor.conv5_mask.weight",
        "roi_head.mask_head.conv_logits.bias": "roi_heads.mask_predictor.mask_fcn_logits.bias",
    },
    "cascade_mask_rcnn": {
        "rpn_head.rpn_cls.weight": "rpn.head.cls_logits.weight",
        "roi_head.bbox_head.1.shared_convs.3.bn.weight": "roi_heads.stages.1.box_head.3.1.weight",
        "roi_head.bbox_head.2.shared_fcs.0.bias": "roi_heads.stages.2.box_head.5.bias",
        "roi_head.bbox_head.0.fc_reg.bias": "roi_heads.stages.0.box_predictor.bbox_pred.bias",
        "roi_head.mask_head.2.convs.0.conv.weight": "roi_heads.stages.2.mask_head.0.0.weight",
        "roi_head.mask_head.1.conv_logits.weight": "roi_heads.stages.1.mask_predictor.mask_fcn_logits.weight",
    },
}


def load(path, **options):
    return load_model(path, device="cpu", **options)


def numbered(layout):
    """Every value of the n-th tensor is n, in files and memory of no size."""
    return {name: torch.tensor(float(n)).expand(shape) for n, (name, shape) in enumerate(layout.items(), 1)}


def in_mm_file(state):
    return {"meta": {"epoch": 1, "CLASSES": ("wall", "sky")}, "state_dict": state, "optimizer": {}}


@pytest.mark.parametrize("head", LAYOUTS)
def test_whole_files_load_strictly_and_every_value_lands_once(head, tmp_path):
    state = numbered(LAYOUTS[head])
    torch.save(in_mm_file(state), tmp_path / "mm.pth")
    network = load(tmp_path / "mm.pth")
    origin = network.origin
    assert origin.model == f"{head}(atmnet_xtiny)"
    assert origin.layout == ("mmseg" if head in ("upernet", "semantic_fpn") else "mmdet")
    assert origin.config == {"num_classes": 7, "in_chans": 3}
    assert f"{origin.matched} tensors matched, 7 classes" in origin.describe()

    values = {name: int(tensor.flatten()[0]) for name, tensor in network.state_dict().items()}
    unused = 2 if head == "retinanet" else 0  # the norm of the finest map
    assert sorted(values.values())[unused:] == sorted(set(values.values()))[unused:]
    assert len(values) == len(state) - unused == origin.matched
    theirs = {name: int(tensor.flatten()[0]) for name, tensor in state.items()}
    for name, ours in LANDED[head].items():
        assert values[ours] == theirs[name], name
    assert all(tensor.unique().numel() == 1 for tensor in network.state_dict().values())


@pytest.mark.parametrize(
    ("head", "theirs", "ours"),
    [
        ("mask_rcnn", "roi_head.bbox_head.fc_cls.bias", "roi_heads.box_predictor.cls_score.bias"),
        ("cascade_mask_rcnn", "roi_head.bbox_head.1.fc_cls.bias", "roi_heads.stages.1.box_predictor.cls_score.bias"),
    ],
)
def test_background_moves_from_last_to_first(head, theirs, ours, tmp_path):
    state = numbered(LAYOUTS[head]) | {theirs: torch.arange(8.0)}
    torch.save(in_mm_file(state), tmp_path / "mm.pth")
    assert load(tmp_path / "mm.pth").state_dict()[ours].tolist() == [7, 0, 1, 2, 3, 4, 5, 6]


@pytest.mark.parametrize("head", LAYOUTS)
def test_missing_and_unknown_tensors_are_named(head, tmp_path):
    theirs, ours = list(LANDED[head].items())[-1]
    state = numbered(LAYOUTS[head])
    del state[theirs]
    torch.save(in_mm_file(state | {"neck.extra.weight": torch.ones(1)}), tmp_path / "mm.pth")
    with pytest.raises(CheckpointError) as caught:
        load(tmp_path / "mm.pth")
    assert f"1 missing: {ours}" in str(caught.value)
    assert "1 unknown: neck.extra.weight" in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("head", ["semantic_fpn", "retinanet"])
def test_converted_file_gives_equal_outputs(head, tmp_path, images):
    torch.manual_seed(0)
    state = {
        name: torch.randn(shape) / 30 if len(shape) > 1 else torch.rand(shape) for name, shape in LAYOUTS[head].items()
    }
    torch.save(in_mm_file(state), tmp_path / "mm.pth")
    convert_checkpoint(tmp_path / "mm.pth", tmp_path / "own.safetensors")
    first, second = load(tmp_path / "mm.pth"), load(tmp_path / "own.safetensors")
    assert second.origin.model == first.origin.model
    assert second.origin.layout == "timm"
    with torch.inference_mode():
        ours, theirs = (network.backbone(images) for network in (second, first))
        assert all(torch.equal(ours[name], theirs[name]) for name in theirs)
        if head == "semantic_fpn":
            assert torch.equal(second(images), first(images))


@pytest.mark.parametrize(
    "name", ["upernet(atmnet_nano, atmfpn)", "mask_rcnn(atmnet_nano, atmfpn)", "retinanet(atmnet_nano)"]
)
def test_own_networks_saved_by_torch_are_recognized(name, tmp_path):
    torch.manual_seed(0)
    network = create_network(name, num_classes=5).eval()
    torch.save(network.state_dict(), tmp_path / "own.pth")
    loaded = load(tmp_path / "own.pth")
    assert (loaded.origin.model, loaded.origin.config["num_classes"]) == (name, 5)
    for key, tensor in network.state_dict().items():
        assert torch.equal(loaded.state_dict()[key], tensor)


@pytest.mark.parametrize("head", ["upernet", "mask_rcnn", "retinanet"])
def test_backbone_alone_gives_the_maps_it_gives_inside(head, tmp_path, images):
    torch.manual_seed(0)
    network = create_network(f"{head}(atmnet_nano)", num_classes=5).eval()
    torch.save(network.state_dict(), tmp_path / "own.pth")
    alone = load(tmp_path / "own.pth", features_only=True)
    body = network.backbone if head == "upernet" else network.backbone.body
    with torch.inference_mode():
        maps, expected = alone(images), body(images)
    assert len(maps) == (3 if head == "retinanet" else 4)
    assert all(torch.equal(a, b) for a, b in zip(maps, expected, strict=True))
    assert alone.origin.config["num_classes"] == 0
    assert sum(alone.origin.left_out.values()) + alone.origin.matched <= len(network.state_dict())


def test_names_give_untrained_dense_networks():
    network = load("semantic_fpn(atmnet_nano, atmfpn)")
    assert network.origin.describe() == "semantic_fpn(atmnet_nano, atmfpn): random, untrained weights (seed 0)"
    assert network.origin.config == {"num_classes": 150}


def test_upernet_without_transformers_is_one_line(tmp_path, monkeypatch):
    torch.save(in_mm_file(numbered(LAYOUTS["upernet"])), tmp_path / "mm.pth")
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(AtmvizError, match=r"pip install 'atmviz\[upernet\]'") as caught:
        load(tmp_path / "mm.pth")
    assert "\n" not in str(caught.value)


def test_expected_network_or_backbone_is_confirmed(tmp_path):
    torch.save(in_mm_file(numbered(LAYOUTS["retinanet"])), tmp_path / "mm.pth")
    assert load(tmp_path / "mm.pth", model="atmnet_xtiny")
    assert load(tmp_path / "mm.pth", model="retinanet(atmnet_xtiny)")
    with pytest.raises(CheckpointError, match=r"got retinanet\(atmnet_xtiny\)"):
        load(tmp_path / "mm.pth", model="atmnet_tiny")
