"""`atmviz histogram`: from images, a dataset or a recording to figures and their numbers."""

import csv
import json
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import zarr
from matplotlib.figure import Figure
from PIL import Image

from atmviz.recording.store import open_recording

SMALL = ("--size", "64")


@pytest.fixture
def blank(monkeypatch):
    """Draw nothing: for tests of what is recorded and said, not of the figure."""
    monkeypatch.setattr("atmviz.views.histograms.draw_histograms", lambda *_, **__: Figure(figsize=(1, 1)))


def test_a_recording_becomes_a_figure_and_its_table(succeed, recording):
    result = succeed("histogram", recording, "--out", "figures", "--layer", "3_18", "--format", "png,pdf,svg")
    dataset = open_recording(recording).attrs["dataset"]
    files = [Path(line) for line in result.stdout.splitlines()]
    assert re.fullmatch(rf"figures/{dataset}_atmnet_nano_histogram_3_18_\w{{8}}\.png", str(files[0]))
    assert files == [files[0].with_suffix(f".{kind}") for kind in ("png", "pdf", "svg", "csv")]


def test_the_table_holds_the_recorded_offsets(succeed, folder, recording):
    succeed("histogram", recording, "--layer", "3_18")
    (table,) = folder.glob("*.csv")
    with table.open() as file:
        rows = list(csv.DictReader(file))
    offsets = open_recording(recording).offsets("3_18")  # [images, 2, 64]
    for axis, (name, low, high) in enumerate((("horizontal", -3, 2), ("vertical", -2, 1))):
        nearest = np.rint(offsets[:, axis])
        found = {row["offset"]: int(row["count"]) for row in rows if row["axis"] == name}
        expected = {str(offset): int((nearest == offset).sum()) for offset in range(low, high + 1)}
        assert found == {f"<{low}": (nearest < low).sum(), **expected, f">{high}": (nearest > high).sum()}
    assert {row["layer"] for row in rows} == {"3_18"}
    assert {row["source"] for row in rows} == {"3_13"}


def test_json_describes_every_panel_and_is_all_there_is_on_stdout(succeed, folder, recording):
    result = succeed("histogram", recording, "--layer", "2_1,3_18", "--json", "--out", "figures")
    said = json.loads(result.stdout)
    assert [(panel["layer"], panel["axis"], panel["range"]) for panel in said["panels"]] == [
        ("2_1", "horizontal", [-6, 5]),
        ("2_1", "vertical", [-4, 3]),
        ("3_18", "horizontal", [-3, 2]),
        ("3_18", "vertical", [-2, 1]),
    ]
    assert said["panels"][2]["source"] == "3_13"
    assert said["panels"][2]["map_size"] == [4, 6]
    offsets = open_recording(recording).offsets("3_18")
    for axis, size in ((0, 6), (1, 4)):
        panel = said["panels"][2 + axis]
        position = np.rint(offsets[:, axis]) + size // 2
        assert panel["mean_abs_offset"] == pytest.approx(np.abs(offsets[:, axis]).mean())
        assert panel["outside_share"] == pytest.approx(((position < 0) | (position >= size)).mean())
    assert (said["model"], said["images"], said["complete"], said["trained"]) == ("atmnet_nano", 3, True, False)
    assert sorted(said["files"]) == sorted(str(file.relative_to(folder)) for file in folder.rglob("figures/*"))


@pytest.mark.parametrize(
    ("layer", "drawn"),
    [
        (["3_18"], ["3_18"]),
        (["layer_3_18", "2_1"], ["3_18", "2_1"]),
        (["2_1,3_last"], ["2_1", "3_18"]),
        (["4_*"], ["4_1", "4_2"]),
        ([], ["2_1", "3_1", "3_18"]),
    ],
)
@pytest.mark.usefixtures("blank")
def test_layers_are_drawn_in_the_order_asked_for(succeed, recording, layer, drawn):
    options = [part for one in layer for part in ("--layer", one)]
    said = json.loads(succeed("histogram", recording, "--json", *options).stdout)
    assert [panel["layer"] for panel in said["panels"][::2]] == drawn
    assert f"_histogram_{'-'.join(drawn)}_" in said["files"][0]


@pytest.mark.usefixtures("blank")
def test_all_layers_are_those_that_generate_offsets_and_get_a_short_file_name(succeed, recording):
    said = json.loads(succeed("histogram", recording, "--layer", "all", "--json").stdout)
    assert [panel["layer"] for panel in said["panels"][::2]] == ["1_1", "2_1", "3_1", "3_7", "3_13", "4_1"]
    assert "_histogram_6-layers_" in said["files"][0]


@pytest.mark.usefixtures("blank")
def test_all_tokens_have_a_range_and_files_of_their_own(succeed, folder, recording):
    said = json.loads(succeed("histogram", recording, "--layer", "3_18", "--tokens", "all", "--json").stdout)
    assert [panel["range"] for panel in said["panels"]] == [[-5, 5], [-3, 3]]
    assert said["panels"][0]["outside_share"] == pytest.approx(
        float(open_recording(recording).outside_share("3_18")[:, 0].mean())
    )
    (table,) = folder.glob("*.csv")
    with table.open() as file:
        counts = [int(row["count"]) for row in csv.DictReader(file) if row["axis"] == "horizontal"]
    assert sum(counts) == 3 * 4 * 6 * 64


def test_an_unfinished_recording_of_no_images_is_refused(refuse, recording):
    group = zarr.open_group(recording, mode="r+")
    group["status"][:] = 0
    group["done"][:] = False
    result = refuse(1, str(recording), "histogram", recording, "--layer", "3_18")
    assert "expected files ending in" not in result.stderr  # it is not searched for images


def test_the_second_figure_comes_from_the_cache_without_torch(succeed, images):
    untrained = ("-c", "atmnet_nano")
    first = succeed("histogram", images, *SMALL, "--layer", "3_18", *untrained)
    assert "untrained weights" in first.stderr
    code = (
        "import sys; from atmviz_cli.app import app\n"
        "try: app(sys.argv[1:])\n"
        "finally: print(*sorted({'torch', 'timm'} & set(sys.modules)), file=sys.stderr)\n"
    )
    command = [sys.executable, "-c", code, "histogram", images, *SMALL, "--layer", "2_1,3_13", "--format", "svg"]
    command += untrained
    second = subprocess.run(command, capture_output=True, text=True, check=True)
    assert "using the cached recording" in second.stderr
    assert second.stderr.splitlines()[-1] == ""
    assert re.fullmatch(r"noise_atmnet_nano_histogram_2_1-3_13_\w{8}\.svg", second.stdout.splitlines()[0])


@pytest.mark.usefixtures("blank")
def test_other_settings_and_changed_images_are_not_taken_from_the_cache(succeed, images):
    command = ("histogram", images, *SMALL, "--layer", "3_1")
    assert "holds 3 images" in succeed(*command).stderr
    assert "holds 3 images" in succeed(*command, "--fit", "squash").stderr
    assert "holds 2 images" in succeed(*command, "--limit", "2").stderr
    assert "cached" in succeed(*command).stderr
    Image.new("RGB", (50, 50)).save(images / "a.png")
    assert "holds 3 images" in succeed(*command).stderr


@pytest.mark.usefixtures("blank")
def test_corrupt_images_among_good_ones_are_left_out_and_named_also_from_the_cache(succeed, damaged_images):
    for again in (False, True):
        result = succeed("histogram", damaged_images, *SMALL, "--layer", "3_18", "--json")
        said = json.loads(result.stdout)
        assert (said["images"], said["skipped"]) == (3, ["broken.png"])
        assert "skipped 1 unreadable image: broken.png" in result.stderr
        assert ("cached" in result.stderr) == again


@pytest.mark.usefixtures("blank")
def test_strict_stops_at_a_corrupt_image_also_when_the_recording_is_cached(refuse, succeed, damaged_images):
    refuse(1, "broken.png", "histogram", damaged_images, *SMALL, "--strict")
    succeed("histogram", damaged_images, *SMALL, "--out", "figures")
    refuse(1, "broken.png", "histogram", damaged_images, *SMALL, "--strict")


@pytest.mark.usefixtures("blank")
def test_the_bundled_photographs_are_drawn_without_a_source(succeed):
    said = json.loads(succeed("histogram", *SMALL, "--limit", "2", "--seed", "1", "--json").stdout)
    assert (said["dataset"], said["images"]) == ("photos", 2)


TREES = {
    "ade20k": ("ADEChallengeData2016/images/validation", "ADE_val_00000001.jpg", (512, 512), ["2_1", "3_18"], None),
    "coco": ("coco/val2017", "000000000139.jpg", (600, 800), ["2_1", "3_1", "3_18"], None),
    "imagenet": ("imagenet/val/n01440764", "ILSVRC2012_val_00000293.JPEG", (224, 224), ["2_1", "3_1", "3_18"], 5000),
}


@pytest.fixture
def datasets(tmp_path):
    """The three datasets' folders, one image in each."""
    for place, name, *_ in TREES.values():
        (tmp_path / "data" / place).mkdir(parents=True)
        Image.new("RGB", (80, 64), "olive").save(tmp_path / "data" / place / name)
    return tmp_path / "data"


@pytest.mark.usefixtures("blank")
@pytest.mark.parametrize(("figure", "dataset"), [(3, "ade20k"), (6, "coco"), (7, "imagenet")])
def test_figures_of_the_paper_are_presets(succeed, datasets, recording, monkeypatch, figure, dataset):
    asked = {}

    def sample(images, limit, seed):
        asked.update(limit=limit)
        return images

    def record(request, images, folder, events):
        asked.update(name=images.title, preprocessing=request.running.preprocessing_of(images.title))
        return open_recording(recording)

    monkeypatch.setattr("atmviz.sources.ImageFiles.sample", sample)
    monkeypatch.setattr("atmviz.views.recordings.RecordedSource._record", record)
    said = json.loads(succeed("histogram", "--figure", figure, "--data-dir", datasets, "--json").stdout)
    assert asked["name"] == dataset
    assert asked.get("limit") == TREES[dataset][4]
    assert (asked["preprocessing"].size, asked["preprocessing"].fit) == (TREES[dataset][2], "crop")
    assert asked["preprocessing"].crop_pct == (0.875 if dataset == "imagenet" else 1)
    assert [panel["layer"] for panel in said["panels"][::2]] == TREES[dataset][3]


@pytest.mark.parametrize(("figure", "dataset"), [(3, "ade20k"), (6, "coco"), (7, "imagenet")])
def test_presets_run_from_published_folders_to_a_figure(succeed, datasets, figure, dataset):
    options = ("--data-dir", datasets, *SMALL, "--layer", "3_18", "--json")
    said = json.loads(succeed("histogram", "--figure", figure, *options).stdout)
    assert (said["dataset"], said["images"]) == (dataset, 1)
    assert re.fullmatch(rf"{dataset}_atmnet_nano-[0-9a-f]{{6}}_histogram_3_18_\w{{8}}\.png", said["files"][0])


@pytest.mark.usefixtures("blank")
def test_options_override_a_preset(succeed, datasets):
    options = ("--layer", "1_1", "--size", "32x64", "--dataset", "coco", "--data-dir", datasets)
    said = json.loads(succeed("histogram", "--figure", "3", *options, "--json").stdout)
    assert (said["dataset"], said["layers"][0]) == ("coco", "1_1")
    assert [panel["map_size"] for panel in said["panels"]] == [[8, 16]] * 2


@pytest.mark.usefixtures("blank")
def test_the_data_folder_may_come_from_the_environment(succeed, datasets, monkeypatch):
    monkeypatch.setenv("ATMVIZ_DATA", str(datasets))
    assert json.loads(succeed("histogram", "--dataset", "coco", *SMALL, "--json").stdout)["dataset"] == "coco"


def test_a_figure_drawn_again_has_the_same_bytes_and_leaves_nothing_else(succeed, folder, recording):
    drawn = []
    for _ in range(2):
        succeed("histogram", recording, "--layer", "3_18")
        drawn.append({file.name: file.read_bytes() for file in folder.iterdir()})
    assert drawn[0] == drawn[1]
    assert sorted(name.rpartition(".")[2] for name in drawn[0]) == ["csv", "png"]


def test_a_recording_of_few_layers_is_drawn_without_naming_them(succeed, images):
    succeed("record", images, *SMALL, "--layer", "4_1", "--out", "few")
    said = json.loads(succeed("histogram", "few", "--json").stdout)
    assert {panel["layer"] for panel in said["panels"]} == {"4_1"}


@pytest.mark.parametrize("options", [["--size", "96"], ["-c", "atmnet_tiny"], ["--limit", "1"]], ids=str)
def test_options_that_a_recording_has_fixed_are_refused(refuse, recording, options):
    name = options[0].replace("-c", "checkpoint").lstrip("-")
    refuse(2, f"got {name} for the recording", "histogram", recording, *options)


def test_two_recordings_are_told_to_be_merged(refuse, recording):
    refuse(2, "expected one: atmviz compare draws two, atmviz merge joins them", "histogram", recording, recording)


@pytest.mark.usefixtures("blank")
@pytest.mark.parametrize("size", ["224x224", "384x384", "512x512", "600x800"])
@pytest.mark.parametrize("dataset", ["ade20k", "imagenet"])
def test_a_folder_is_cropped_alike_however_it_is_named(succeed, datasets, recording, monkeypatch, dataset, size):
    asked = []

    def record(request, images, folder, events):
        asked.append((images.path(0), request.running.preprocessing_of(images.title)))
        return open_recording(recording)

    monkeypatch.setattr("atmviz.views.recordings.RecordedSource._record", record)
    place = datasets / TREES[dataset][0]
    named, figure = ("--data-dir", datasets), ("--figure", "3" if dataset == "ade20k" else "7")
    ways = [("--dataset", dataset, *named), (place,), (*figure, *named), (*figure, place)]
    for way in ways:
        succeed("histogram", *way, "--size", size, "--layer", "3_18", "--limit", "1")
    assert len(asked) == 4
    assert len(set(asked)) == 1
    assert asked[0][1].crop_pct == (0.875 if size in ("224x224", "384x384") else 1)


def _say(recording, **attributes):
    group = json.loads((recording / "zarr.json").read_text())
    group["attributes"] |= attributes
    (recording / "zarr.json").write_text(json.dumps(group))


@pytest.mark.usefixtures("blank")
@pytest.mark.parametrize(
    "name", ["{tmp}/victim/evil", "../../evil", "x" * 5000, "写" * 300, "\x1b[2J", "\udcff", "", ".."]
)
def test_a_recording_s_name_for_its_data_leads_nowhere(succeed, tmp_path, folder, recording, name):
    _say(recording, dataset=name.format(tmp=tmp_path))
    said = json.loads(succeed("histogram", recording, "--layer", "3_18", "--out", "figures", "--json").stdout)
    assert [(folder / file).parent for file in said["files"]] == [folder / "figures"] * 2
    assert all((folder / file).is_file() for file in said["files"])
    assert sorted(path.name for path in folder.parent.iterdir()) == ["here", "recording"]


@pytest.mark.usefixtures("blank")
@pytest.mark.parametrize("asked", [("--layer", "all"), ()], ids=str)
def test_more_layers_than_a_figure_can_show_are_refused(refuse, recording, monkeypatch, asked):
    monkeypatch.setattr("atmviz.views.histograms.MAX_PANELS", 4)
    refuse(2, "expected at most 4 panels", "histogram", recording, *asked)


@pytest.mark.usefixtures("blank")
def test_recordings_of_two_queries_have_two_figures(succeed, recording):
    files = set()
    for query in ("center", "1:2", "0.3,0.6"):
        _say(recording, query=query)
        files |= set(json.loads(succeed("histogram", recording, "--layer", "3_18", "--json").stdout)["files"])
    assert len(files) == 6


def test_how_much_of_the_photographs_is_seen_is_said(succeed, monkeypatch, recording):
    notes = []
    monkeypatch.setattr(
        "atmviz.views.histograms.draw_histograms", lambda *_, note, **__: notes.append(note) or Figure((1, 1))
    )
    _say(recording, preprocessing={"size": [600, 800], "fit": "crop", "crop_pct": 1.0})
    said = json.loads(succeed("histogram", recording, "--layer", "3_18", "--json").stdout)["preprocessing"]
    seen = {"4:3": 1, "1:1": 0.75, "3:4": pytest.approx(0.5625, abs=1e-3)}
    assert said == {"size": [600, 800], "fit": "crop", "crop_pct": 1, "seen": seen}
    assert notes[0].endswith("; a center crop to 600×800 px shows 56 % to 100 % of a photograph, by its shape")


@pytest.mark.parametrize("preprocessing", [{}, None, {"size": [64, 64], "fit": "melt", "crop_pct": 1}, "crop"])
def test_a_recording_that_does_not_say_how_its_images_were_fitted_is_damaged(refuse, recording, preprocessing):
    _say(recording, preprocessing=preprocessing)
    refuse(1, "is damaged", "histogram", recording, "--layer", "3_18")
