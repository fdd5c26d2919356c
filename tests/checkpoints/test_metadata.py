"""Metadata of this project's files: what is read, and what is refused before anything is built."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from safetensors import safe_open
from safetensors.torch import save_file

from atmviz.checkpoints import load_model
from atmviz.models import create_model


def load(path, **options):
    return load_model(path, device="cpu", **options)


def test_metadata_may_use_the_former_names_of_settings(tmp_path):
    network = create_model("atmnet_nano", num_classes=5, channels_per_offset=4)
    path = tmp_path / "old.safetensors"
    save_file(network.state_dict(), path, {"architecture": "atmnet_nano", "config": '{"num_classes": 5, "share": 4}'})
    assert load_model(path, device="cpu").origin.config == {
        "num_classes": 5,
        "channels_per_offset": 4,
    }


NESTED = json.loads('{"a":' * 200 + "1" + "}" * 200)


@pytest.mark.parametrize("config", ["{", '{"num_classes": 5, "option_of_tomorrow": 1}'])
def test_unknown_configuration_is_an_error(config, nano, tmp_path, refusal):
    path = tmp_path / "nano.safetensors"
    save_file(nano.state_dict(), path, {"architecture": "atmnet_nano", "config": config})
    refusal(path)


@pytest.fixture(scope="module")
def own_file(tmp_path_factory):
    """`own_file(config=..., about=...)` writes the demonstration model with other metadata."""
    source = Path(load("atmnet_nano.shapes").origin.path)
    path = tmp_path_factory.mktemp("own") / "own.safetensors"
    with safe_open(source, framework="pt") as file:
        tensors, usual = {name: file.get_tensor(name) for name in file.keys()}, file.metadata()  # noqa: SIM118

    def write(**metadata):
        changed = {
            name: json.dumps({**json.loads(usual[name]), **value}) if isinstance(value, dict) else value
            for name, value in metadata.items()
        }
        save_file(tensors, path, {**usual, **changed})
        return path

    return write


@pytest.mark.parametrize(
    ("metadata", "message"),
    [
        ({"config": {"num_classes": 11}}, "of a wrong shape"),
        ({"config": {"depths": [2, 2, 2, 2]}}, "unknown: stages.2.blocks"),
        ({"config": "[1]"}, "damaged metadata"),
        ({"config": "[" * 10**5}, "damaged metadata"),
        ({"config": "9" * 10**4}, "damaged metadata"),
        ({"about": "[1]"}, "damaged metadata"),
        ({"about": "[" * 10**5}, "damaged metadata"),
        ({"architecture": "atmnet_huge"}, "is of 'atmnet_huge', expected one of atmnet_nano"),
        ({"architecture": "mask_rcnn(nothing)"}, "is of 'mask_rcnn"),
        ({"architecture": "mask_rcnn(hf-hub:someone/something)"}, "is of 'mask_rcnn"),
        ({"architecture": "mask_rcnn(local-dir:/etc)"}, "is of 'mask_rcnn"),
        ({"architecture": "mask_rcnn(" + "a" * 10**6}, "is of 'mask_rcnn"),
        *(
            ({"config": config}, f"got {next(iter(config))}")
            for config in (
                *({"num_classes": value} for value in (-1, "ten", 10**9, True, 5.0, None, [5], float("nan"))),
                *({"depths": value} for value in ([10**9, 2, 2, 2], [2, 2, 2], 2, "2222", [2, 2, 2, True])),
                *({"offset_mode": value} for value in ("evil", 0, ["decoupled"])),
                *({"fusion": "evil"}, {"peg": 1}, {"num_samples": 10**6}, {"in_chans": 10**6}, {"out_norms": "yes"}),
                *({"dim": 64}, {"min_size": 64}, {"box_samples": 5}),  # of dense networks
                *({"pretrained": True}, {"pretrained_cfg": {"url": "http://localhost"}}, {"pretrained_cfg": 5}),
                *({"pretrained_cfg_overlay": {}}, {"checkpoint_path": "/etc/passwd"}, {"cache_dir": "/tmp/a"}),
                *({"features_only": True}, {"global_pool": "evil"}, {"drop_path_rate": 0.1}, {"scriptable": True}),
            )
        ),
        *(
            ({"about": about}, "damaged metadata")
            for about in (
                *({"classes": value} for value in ([1, 2], "all", [], ["a", "a"], ["a" * 1000], [""], {"a": 1})),
                *({"image_size": value} for value in (10**9, 31, -1, 0, 64.0, True, "64", None)),
                *({"crop_pct": value} for value in (-1.0, 0.0, float("nan"), float("inf"), "1", True, 1.1)),
                *({"dataset": value} for value in (5, "", "a" * 1000, ["shapes"])),
                *({"recipe": 5}, {"val_top1": "high"}, {"val_top1": [1]}, {"a" * 1000: 1}),
                *({"val_top1": 10**400}, {"epoch": -(10**400)}, {"recipe": {"a": NESTED}}),
            )
        ),
    ],
    ids=lambda value: str(value)[:50],
)
def test_metadata_of_other_kinds_or_ranges_is_one_line(own_file, metadata, message, refusal):
    path = own_file(**metadata)
    assert message in refusal(path)
    assert len(refusal(path)) < 1000


def test_metadata_within_its_ranges_is_kept(own_file):
    about = {
        "classes": [f"class {n}" for n in range(10)],
        "image_size": 4096,
        "crop_pct": 1,
        "val_top1": 97.5,
        "x": None,
    }
    origin = load(own_file(about=about, config={"offset_mode": "decoupled", "peg": True, "in_chans": 3})).origin
    assert about.items() <= origin.training_info.items()
    assert origin.config == {"num_classes": 10, "offset_mode": "decoupled", "peg": True, "in_chans": 3}
    assert load(own_file(weights="of someone")).origin.weights is None


def test_opening_a_file_that_asks_for_others_opens_no_socket_and_no_other_file(own_file, tmp_path):
    """By Python's audit events, in a process of its own, whatever the metadata says."""
    secret = tmp_path / "secret.txt"
    secret.write_text("secret")
    asks = {"pretrained": True, "pretrained_cfg": {"url": "http://127.0.0.1:1/a"}, "checkpoint_path": str(secret)}
    files = [own_file(config={name: value}).rename(tmp_path / f"{name}.safetensors") for name, value in asks.items()]
    files.append(own_file(architecture=f"mask_rcnn(local-dir:{secret})").rename(tmp_path / "a.safetensors"))
    files.append(own_file(architecture="semantic_fpn(resnet18.a1_in1k)").rename(tmp_path / "b.safetensors"))
    program = (
        "import sys\n"
        "from atmviz.checkpoints import load_model\n"
        "from atmviz.errors import AtmvizError\n"
        "seen = []\n"
        "sys.addaudithook(lambda event, args: seen.append(f'{event} {args}')\n"
        "                 if event.startswith('socket') or (event == 'open' and 'secret' in str(args[0])) else None)\n"
        "for path in sys.argv[1:]:\n"
        "    try:\n"
        "        load_model(path, device='cpu')\n"
        "        assert False, path\n"
        "    except AtmvizError:\n"
        "        assert not seen, seen\n"
    )
    subprocess.run([sys.executable, "-W", "ignore", "-c", program, *map(str, files)], check=True)
