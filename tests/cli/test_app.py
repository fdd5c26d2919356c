"""The app: help, version, imports without torch, and one line for every bad input."""

import json
import os
import shutil
import signal
import statistics
import subprocess
import sys
import time
from importlib.metadata import version
from pathlib import Path

import pytest
import torch
import zarr
from atmviz_cli import app
from PIL import Image

COMMANDS = ["histogram", "overlay", "record", "merge", "layers", "models", "convert", "cache", "checkpoints"]
SMALL = ("--size", "64")


@pytest.mark.parametrize(
    ("command", "says"),
    [
        ("histogram", ["--layer", "--tokens", "--figure", "--dataset", "--data-dir", "--format", "--json"]),
        ("overlay", ["--layer", "--query", "--anchor", "--fit", "--checkpoint", "--format", "--json"]),
        ("record", ["--out", "--layer", "--query", "--shard", "--limit", "--seed", "--strict", "--json"]),
        ("merge", ["--out", "--json"]),
        ("layers", ["--size", "--json"]),
        ("models", ["--json"]),
        ("convert", ["--weights", "--overwrite"]),
    ],
)
def test_every_command_explains_itself(succeed, command, says):
    result = succeed(command, "--help")
    assert f"atmviz {command}" in result.stdout or f" {command} " in result.stdout
    assert [option for option in says if option not in result.stdout] == []
    assert succeed(command, "-h").stdout == result.stdout


def test_help_lists_every_command(succeed):
    said = succeed("--help").stdout
    assert [command for command in COMMANDS if f" {command} " not in said] == []


def test_help_says_of_each_command_what_it_says_of_itself():
    for name, line in app.COMMANDS.items():
        assert app.load_command(name).help.split("\n\n")[0].replace("\n", " ").strip() == line


@pytest.mark.parametrize("words", [[], ["--help"]], ids=["atmviz", "help"])
def test_help_takes_at_most_five_times_a_bare_python(words):
    """Without any of the commands, and without rich: 3 times where it was measured."""
    help_ = [sys.executable, "-m", "atmviz_cli", *words]
    seconds = {"help": [], "bare": []}
    for _ in range(7):
        for name, command in (("help", help_), ("bare", [sys.executable, "-c", "pass"])):
            start = time.perf_counter()
            subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
            seconds[name].append(time.perf_counter() - start)
    assert statistics.median(h / b for h, b in zip(seconds["help"], seconds["bare"], strict=True)) <= 5
    code = f"import sys; from atmviz_cli.app import main; sys.argv[1:] = {words}\ntry: main()\n"
    code += (
        "except SystemExit: assert not {'rich', 'yaml', 'numpy', 'atmviz.files', 'atmviz_cli.train'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, stdout=subprocess.DEVNULL)


def test_version_is_the_package_s(succeed):
    assert succeed("--version").stdout == f"atmviz {version('atmviz')}\n"


def test_the_app_and_its_help_need_no_torch():
    code = (
        "import sys\n"
        "from typer.testing import CliRunner\n"
        "from atmviz_cli.app import app\n"
        "for command in sys.argv[1:]:\n"
        "    assert CliRunner().invoke(app, [command, '--help']).exit_code == 0, command\n"
        "loaded = {'torch', 'torchvision', 'timm', 'matplotlib', 'zarr', 'cv2'} & set(sys.modules)\n"
        "assert not loaded, loaded\n"
    )
    subprocess.run([sys.executable, "-c", code, *COMMANDS], check=True)


@pytest.mark.parametrize("module", ["cli", "atmviz_cli"])
def test_the_app_runs_as_a_module_also_from_a_checkout(module):
    root = Path(__file__).parents[2]
    said = subprocess.run(
        [sys.executable, "-m", module, "--version"], cwd=root, capture_output=True, text=True, check=True
    ).stdout
    assert said == f"atmviz {version('atmviz')}\n"


@pytest.mark.parametrize("variable", ["RANK=1", "WORLD_SIZE=4", "PMI_SIZE=8", "LOCAL_RANK=0", "MASTER_ADDR=node0"])
def test_what_other_launchers_leave_changes_nothing(succeed, images, monkeypatch, variable):
    monkeypatch.setenv(*variable.split("="))
    result = succeed("record", images, *SMALL, "-c", "atmnet_nano", "-j", "0", "--out", variable, "--json")
    assert json.loads(result.stdout)["images"] == 3
    assert (f"{variable} is ignored: this process works alone" in result.stderr) == ("SIZE" in variable)


@pytest.mark.parametrize("words", [[], ["data"]], ids=["atmviz", "data"])
def test_without_a_command_the_help_is_shown_and_nothing_is_wrong(succeed, words):
    assert succeed(*words).stdout == succeed(*words, "--help").stdout


def test_what_is_no_error_of_the_caller_keeps_its_traceback(run, recording, monkeypatch):
    def bug(*_):
        raise ValueError("a bug")

    monkeypatch.setattr("atmviz.statistics.histogram.offset_histogram", bug)
    with pytest.raises(ValueError, match="a bug"):
        run("histogram", recording)


@pytest.mark.parametrize("error", [torch.OutOfMemoryError("CUDA out of memory."), MemoryError()], ids=repr)
def test_lack_of_memory_is_one_line(refuse, images, monkeypatch, error):
    def full(*_, **__):
        raise error

    monkeypatch.setattr("atmviz.observe.image.observing", full)
    refuse(1, "out of memory: lower", "overlay", images, *SMALL)


# Usage: exit code 2.
USAGE = {
    "device": (["overlay", "{images}", "--device", "abacus"], "got device 'abacus', expected auto, cpu, cuda, cuda:N"),
    "layer": (["overlay", "{images}", "--layer", "3_19"], "no layer '3_19': expected one of 1_1 to 1_2, 2_1"),
    "layer of a recording": (["histogram", "{recording}", "--layer", "5_*"], "no layer '5_*': expected"),
    "layer to record": (["record", "{images}", "--layer", "x"], "no layer 'x': expected"),
    "layer of images": (["histogram", "{images}", *SMALL, "--layer", "3_19"], "no layer '3_19': expected"),
    "source and dataset": (["histogram", "{images}", "--dataset", "coco"], "expected one of the two"),
    "source and dataset to record": (["record", "{images}", "--dataset", "coco"], "expected one of the two"),
    "recording and dataset": (["histogram", "{recording}", "--dataset", "coco"], "got dataset for the recording"),
    "dataset's name": (["histogram", "--dataset", "cifar"], "got --dataset cifar, expected ade20k, coco"),
    "size of text": (["histogram", "{images}", "--size", "big"], "got size 'big', expected 32 to 65535"),
    "size too small": (["overlay", "{images}", "--size", "31"], "got size '31', expected 32 to 65535"),
    "negative size": (["overlay", "{images}", "--size", "-64"], "got size '-64'"),
    "three sizes": (["record", "{images}", "--size", "64x64x64"], "got size '64x64x64'"),
    "size too large": (["benchmark", "op", "--size", "64x9999999999"], "got size '64x9999999999', expected 32"),
    "half a size": (["layers", "--size", "64x"], "got size '64x'"),
    "format": (["histogram", "{recording}", "--format", "png,gif"], "got format 'gif', expected png, pdf, svg or tex"),
    "no format": (["overlay", "{images}", "--format", ""], "got format ''"),
    "figure": (["histogram", "--figure", "4"], "got figure 4, expected 3, 6 or 7"),
    "figure 5": (["histogram", "--figure", "5"], "Fig. 5 is an overlay"),
    "figure of text": (["histogram", "--figure", "three"], "got --figure three, expected a whole number"),
    "tokens": (["histogram", "{recording}", "--tokens", "some"], "got --tokens some, expected center or all"),
    "fit": (["overlay", "{images}", "--fit", "stretch"], "got --fit stretch, expected crop, squash or whole"),
    "fit of a recording": (["record", "{images}", "--fit", "whole"], "got --fit whole, expected crop or squash"),
    "fit of a histogram": (["histogram", "{images}", "--fit", "whole"], "got --fit whole, expected crop or squash"),
    "anchor": (["overlay", "{images}", "--anchor", "corner"], "got --anchor corner, expected cell or rf"),
    "query": (["overlay", "{images}", *SMALL, "--query", "middle"], "no query 'middle': expected center, X,Y in px"),
    "query of nothing": (["overlay", "{images}", *SMALL, "--query", "grid:0x4"], "no query 'grid:0x4'"),
    "query outside": (["overlay", "{images}", *SMALL, "--query", "72,10"], "outside the image: expected x 0-71, y"),
    "negative query": (["overlay", "{images}", *SMALL, "--query", "-5,3"], "outside the image"),
    "query outside the map": (["overlay", "{images}", *SMALL, "--query", "4:0"], "expected rows 0 to 3"),
    "query outside the crop": (
        ["overlay", "{images}", *SMALL, "--fit", "crop", "--query", "0,0"],
        "outside the center crop of the network: choose fit whole or squash",
    ),
    "query in px to record": (["record", "{images}", *SMALL, "--query", "10,10"], "of another size: expected"),
    "queries to record": (["record", "{images}", *SMALL, "--query", "random:3"], "it is for several tokens: expected"),
    "query outside a map to record": (["record", "{images}", *SMALL, "--query", "9:9"], "outside a map of 8 x 8"),
    "shard": (["record", "{images}", "--shard", "3/2"], "got shard '3/2', expected K/N"),
    "shard of text": (["record", "{images}", "--shard", "first"], "got shard 'first'"),
    "shard 0": (["record", "{images}", "--shard", "0/2"], "got shard '0/2'"),
    "limit": (["record", "{images}", "--limit", "0"], "got --limit 0, expected a whole number, 1 or more"),
    "seed": (["record", "{images}", "--limit", "2", "--seed", "-1"], "got --seed -1, expected a whole number, 0"),
    "batch size": (["record", "{images}", "--batch-size", "0"], "got --batch-size 0, expected"),
    "workers": (["record", "{images}", "--workers", "-1"], "got --workers -1, expected"),
    "weights": (["record", "{images}", "--weights", "best"], "got --weights best, expected ema or model"),
    "option": (["overlay", "{images}", "--frobnicate", "red"], "no option --frobnicate: see atmviz overlay --help"),
    "nothing to convert": (["convert"], "missing IN: see atmviz convert --help"),
    "suffix": (["convert", "{checkpoint}", "out.pth"], "expected a name ending in .safetensors"),
    "folder": (["convert", "{checkpoint}", "{empty}/folder.onnx"], "folder.onnx is a folder, expected the name of"),
    "existing file": (["convert", "{checkpoint}", "{checkpoint}"], "expected a name ending in .safetensors"),
    "nothing to merge": (["merge", "--out", "both"], "missing RECORDING"),
}  # fmt: skip

# What is in files: exit code 1.
DATA = {
    "source": (["overlay", "{tmp}/none.png"], "no image, folder or match for"),
    "source of a histogram": (["histogram", "{tmp}/none/*.png"], "no image, folder or match for"),
    "empty name": (["record", ""], "no images named: expected files, folders or globs"),
    "empty folder": (["histogram", "{empty}"], "no images in"),
    "empty folder to record": (["record", "{empty}"], "no images in"),
    "glob of other files": (["overlay", "{tmp}/*.txt"], "files of other kinds: 1 (notes.txt)"),
    "file that is no image": (["overlay", "{checkpoint}"], "nano.pth (no image of a known format: PNG, JPEG"),
    "pipe": (["overlay", "{pipes}/endless.jpg"], "endless.jpg (no regular file)"),
    "dataset's folder": (["histogram", "--dataset", "ade20k", "--data-dir", "{images}"], "ADEChallengeData2016"),
    "dataset's default folder": (["histogram", "--dataset", "coco"], "expected coco/{val2017,train2017}/*.jpg"),
    "preset's folder": (["histogram", "--figure", "7"], "expected imagenet/{val,train}/"),
    "empty dataset": (["record", "--dataset", "coco", "--data-dir", "{data}"], "no coco val images in"),
    "tiny image": (["overlay", "{tmp}/tiny.png"], "tiny.png is 40x31 px, expected 32 px a side or more"),
    "corrupt image": (["overlay", "{tmp}/cut.png"], "cut.png"),
    "corrupt image to record": (["histogram", "{tmp}/cut.png", *SMALL], "cut.png"),
    "device": (["overlay", "{images}", "--device", "cuda:99"], "got device 'cuda:99', expected one that is here"),
    "other variant": (["overlay", "{images}", "-c", "{checkpoint}", "-m", "atmnet_large"], "expected atmnet_large"),
    "other variant to record": (["record", "{images}", "--model", "atmnet_base"], "expected atmnet_base"),
    "weights the file has not": (["layers", "{lacking}", "--weights", "ema"], "only model: choose model weights"),
    "output is a file": (["histogram", "{recording}", "--out", "{checkpoint}"], "nano.pth"),
    "output below a file": (["overlay", "{images}", *SMALL, "--out", "{checkpoint}/here"], "nano.pth"),
    "output is a device": (["histogram", "{recording}", "--out", "/dev/full"], "/dev/full"),
    "output is not writable": (["overlay", "{images}", *SMALL, "--out", "/proc/atmviz"], "/proc/atmviz"),
    "recording onto a file": (["record", "{images}", *SMALL, "--out", "{checkpoint}"], "nano.pth"),
    "recording below a file": (["record", "{images}", *SMALL, "--out", "{checkpoint}/here"], "nano.pth"),
    "recording into other files": (["record", "{images}", *SMALL, "--out", "{images}"], "choose another folder"),
    "recording is not writable": (["record", "{images}", *SMALL, "--out", "/proc/atmviz"], "read or write /proc/"),
    "conversion below a file": (["convert", "{checkpoint}", "{checkpoint}/x.safetensors"], "nano.pth"),
    "ONNX below a file": (["convert", "{checkpoint}", "{checkpoint}/x.onnx"], "nano.pth is no folder"),
    "conversion of nothing": (["convert", "{tmp}/none.pth", "x.safetensors"], "no checkpoint file"),
    "merging nothing": (["merge", "{images}", "{empty}", "--out", "both"], "no recording in"),
    "merging onto something": (["merge", "{recording}", "{recording}", "--out", "{empty}"], "exists: choose another"),
}  # fmt: skip


@pytest.fixture
def places(tmp_path, images, recording, checkpoint, bad_checkpoints):
    """What "{name}" stands for in the tables above."""
    for folder in ("empty/folder.onnx", "data/val2017", "pipes"):
        (tmp_path / folder).mkdir(parents=True)
    os.mkfifo(tmp_path / "pipes" / "endless.jpg")
    Image.new("RGB", (40, 31)).save(tmp_path / "tiny.png")
    whole = (images / "a.png").read_bytes()
    (tmp_path / "cut.png").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "notes.txt").write_text("no image")
    return {
        "tmp": tmp_path,
        "images": images,
        "recording": recording,
        "checkpoint": checkpoint,
        "empty": tmp_path / "empty",
        "data": tmp_path / "data",
        "pipes": tmp_path / "pipes",
        "lacking": bad_checkpoints.lacking,
    }


@pytest.mark.parametrize(("args", "says"), USAGE.values(), ids=USAGE)
def test_wrong_usage_is_one_error_and_exit_code_two(refuse, places, args, says):
    refuse(2, says, *(arg.format(**places) for arg in args))


@pytest.mark.parametrize(("args", "says"), DATA.values(), ids=DATA)
def test_wrong_data_is_one_line_and_exit_code_one(refuse, places, args, says):
    refuse(1, says, *(arg.format(**places) for arg in args))


BAD_CHECKPOINTS = {
    "missing": "no checkpoint file",
    "folder": "is a folder, expected a checkpoint file",
    "text": "copy or download it again",
    "empty": "is empty: copy or download it again",
    "truncated": "copy or download it again",
    "cut in half": "copy or download it again",
    "hostile": "wants to run",
    "nan": "NaN or infinite values in norm.weight",
    "other": "is not of an ATMNet",
    "lacking": "1 missing: stem.bias",
}


@pytest.mark.parametrize("command", ["overlay", "record", "histogram", "layers", "convert"])
@pytest.mark.parametrize(("kind", "says"), BAD_CHECKPOINTS.items())
def test_a_bad_checkpoint_is_one_line_in_every_command(refuse, images, bad_checkpoints, command, kind, says):
    checkpoint = getattr(bad_checkpoints, kind.replace(" ", "_"))
    args = {"layers": (checkpoint,), "convert": (checkpoint, "out.safetensors")}
    refuse(1, says, command, *args.get(command, (images, *SMALL, "-c", checkpoint)))
    assert not bad_checkpoints.mark.exists()  # what a hostile file wanted to run


@pytest.mark.parametrize("command", ["overlay", "record", "histogram"])
def test_an_unknown_variant_is_told_the_known_ones(refuse, images, command):
    refuse(2, "atmnet_large", command, images, *SMALL, "-c", "atmnet_huge")


@pytest.mark.parametrize("command", ["overlay", "record", "histogram"])
def test_weights_whose_offsets_overflow_are_refused(refuse, images, checkpoint, tmp_path, command):
    state = torch.load(checkpoint)["model_ema"]
    torch.save({**state, "stem.weight": state["stem.weight"] * 1e38}, tmp_path / "overflow.pth")
    out = ("--out", tmp_path / "out")  # a recording may have been begun there
    refuse(1, "NaN or infinite", command, images, *SMALL, "-c", tmp_path / "overflow.pth", *out)


def _without(attribute):
    def change(recording):
        group = json.loads((recording / "zarr.json").read_text())
        del group["attributes"][attribute]
        (recording / "zarr.json").write_text(json.dumps(group))

    return change


def _schema(recording):
    zarr.open_group(recording, mode="r+").attrs["schema_version"] = 99


def _cut(recording):
    for file in recording.joinpath("offset_3_13", "c").rglob("*"):
        if file.is_file():
            file.write_bytes(file.read_bytes()[:-9])


BAD_RECORDINGS = {
    "of another schema": (_schema, "has schema 99, expected 1 or 2: record again"),
    "without a schema": (_without("schema_version"), "no recording in"),
    "without layers": (_without("layers"), "is damaged"),
    "without its images": (_without("images"), "is damaged"),
    "without its settings": (_without("preprocessing"), "is damaged"),
    "without its model": (_without("model"), "is damaged"),
    "of garbage": (lambda path: (path / "zarr.json").write_text("{"), "no recording in"),
    "of nothing": (lambda path: (path / "zarr.json").write_text(""), "no recording in"),
    "without an array": (lambda path: shutil.rmtree(path / "offset_3_13"), "array 'offset_3_13'"),
    "without its status": (lambda path: shutil.rmtree(path / "status"), "array 'status'"),
    "with a cut array": (_cut, "array 'offset_3_13'"),
    "with a lost chunk": (lambda path: shutil.rmtree(path / "offset_3_13" / "c"), "array 'offset_3_13'"),
}


@pytest.mark.parametrize(("damage", "says"), BAD_RECORDINGS.values(), ids=BAD_RECORDINGS)
def test_a_bad_recording_is_one_line(refuse, recording, damage, says):
    damage(recording)
    refuse(1, says, "histogram", recording, "--layer", "3_18")


@pytest.mark.parametrize(("layer", "says"), [("3_99", "no layer '3_99'"), ("3_18,", "no layer ''")])
def test_a_wrong_layer_is_noticed_before_anything_is_recorded(refuse, tmp_path, images, layer, says):
    refuse(2, says, "histogram", images, *SMALL, "--layer", layer)
    assert not list(tmp_path.glob("cache/recordings/*"))


def test_the_variant_is_confirmed_also_from_the_cache(succeed, refuse, images, checkpoint):
    command = ("histogram", images, *SMALL, "-c", checkpoint, "--layer", "4_1", "--out")
    succeed(*command, "figures", "--model", "atmnet_nano")
    refuse(1, "expected atmnet_large", *command, "figures", "--model", "atmnet_large")


def test_a_damaged_recording_in_the_cache_says_where_it_is(succeed, refuse, tmp_path, images):
    succeed("histogram", images, *SMALL, "--layer", "3_18", "--out", "figures")
    (cached,) = tmp_path.glob("cache/recordings/*")
    _cut(cached)
    refuse(1, str(cached), "histogram", images, *SMALL, "--layer", "3_18")


def test_a_scheduler_s_signal_leaves_no_temporary_file(tmp_path):
    command = [sys.executable, "-m", "atmviz_cli", "benchmark", "record", "-m", "atmnet_nano", "--images", "2000"]
    environment = {**os.environ, "TMPDIR": str(tmp_path), "CUDA_VISIBLE_DEVICES": ""}
    process = subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True)
    while process.poll() is None and not list(tmp_path.rglob("*.jpg")):
        time.sleep(0.05)
    process.send_signal(signal.SIGTERM)
    assert process.communicate(timeout=60)[1] == ""
    assert process.returncode == 128 + signal.SIGTERM
    assert not list(tmp_path.rglob("*.jpg"))


@pytest.mark.parametrize("value", ["x", "0", "00", "-5", "", "1e9"])
@pytest.mark.parametrize("name", ["COLUMNS", "LINES", "TERMINAL_WIDTH"])
def test_a_width_that_is_none_is_no_width(name, value):
    code = f"import os, atmviz_cli; print(os.environ.get({name!r}))"
    for given, left in ((value, "None"), ("100", "100")):
        said = subprocess.check_output([sys.executable, "-c", code], env={**os.environ, name: given}, text=True)
        assert said == f"{left}\n"


@pytest.mark.parametrize("name", app.COMMANDS)
def test_help_is_wrapped_by_the_terminal_alone(name):
    assert "\n" not in app.load_command(name).help.replace("\n\n", "")


@pytest.mark.parametrize(
    "args",
    [["\x1b[2J\u202e"], ["overlay", "--\x1b[2J\u202e"], ["overlay", "--size", "\x1b[2J\u202e"],
     ["overlay", "--fit", "\x1b[2J\u202e"], ["overlay", "\x1b[2J\u202e"], ["layers", "\x1b[2J\u202e"],
     ["histogram", "--layer", "\x1b[2J\u202e"], ["train", "--recipe", "\x1b[2J\u202e"]],
    ids=" ".join,
)  # fmt: skip
def test_errors_that_quote_an_argument_do_not_act_on_the_terminal(run, args):
    result = run(*args)
    assert result.exit_code in (1, 2)
    assert r"\x1b[2J\u202e" in result.stderr.replace("\\\\", "\\")
    assert not {"\x1b", "\u202e"} & {*result.output}


def test_a_library_s_warning_is_one_line_without_its_source():
    code = "import sys, warnings; from atmviz_cli import app; sys.argv[1:] = ['--version']\ntry: app.main()\n"
    code += "except SystemExit: warnings.warn('two\\nlines', FutureWarning)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stderr == "warning: two lines\n"
