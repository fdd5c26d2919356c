"""Recordings on disk: readable without torch and by other tools; damage, other schemas and other runs are noticed."""

import json
import os
import resource
import shutil
import subprocess
import sys
import time
import zipfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import zarr
from numcodecs.zstd import Zstd

from atmviz import files
from atmviz.checkpoints import build, load_model, random_checkpoint
from atmviz.errors import LayerNotFoundError, RecordingFormatError, SettingsError
from atmviz.geometry import Preprocessing
from atmviz.layers import LayerId
from atmviz.recording import array_files, layout, writer
from atmviz.recording.array_files import is_recording
from atmviz.recording.merge import merge_recordings
from atmviz.recording.quantities import QUANTITIES
from atmviz.recording.store import open_recording
from atmviz.sources.files import find_images

# Of nano at 64x96 px, 130 images of which one is unreadable, in three chunks; see conftest.py.
SHAPES = {
    "offset_1_1": (130, 2, 12),
    "offset_2_1": (130, 2, 12),
    "offset_3_1": (130, 2, 16),
    "offset_3_7": (130, 2, 16),
    "offset_3_13": (130, 2, 16),
    "offset_4_1": (130, 2, 12),
    "mean_abs_offset": (130, 6, 2),
    "outside_share": (130, 6, 2),
    "fusion": (130, 24, 3),
    "counts": (3, 6, 2, 2 * 24 + 1),
    "status": (130,),
    "done": (3,),
}
COORDINATES = {"axis": (2,), "image": (130,), "layer": (24,), "source": (6,)}
ALIASES = ["offset_1_2", "offset_2_2", "offset_4_2"] + [f"offset_3_{k}" for k in range(2, 19) if k not in (7, 13)]


def refusal(call, *arguments, kind=RecordingFormatError, **options):
    """The message of what must be refused; it is one line."""
    with pytest.raises(kind) as caught:
        call(*arguments, **options)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def part(images, start, stop):
    return replace(images, names=images.names[start:stop])


@pytest.fixture
def copied(recording, tmp_path):
    """A copy of the recording to damage."""
    return shutil.copytree(recording.path, tmp_path / "copy")


@pytest.fixture
def small(record, images, tmp_path):
    """The path of a recording of four images."""
    return record(part(images, 0, 4), tmp_path / "small").recording.path


@pytest.fixture(scope="module")
def halves(record, images, tmp_path_factory):
    """Recordings of the first chunk of images, and of all others."""
    root = tmp_path_factory.mktemp("halves")
    parts = {"first": part(images, 0, 64), "second": part(images, 64, 130)}
    return [record(images, root / name).recording.path for name, images in parts.items()]


# Reading.


def test_arrays_have_the_documented_shapes(recording):
    group = zarr.open_group(recording.path, mode="r")
    arrays = {name: array for name, array in group.arrays() if name not in ALIASES}
    assert {name: array.shape for name, array in arrays.items()} == SHAPES | COORDINATES
    types = {name: str(array.dtype) for name, array in arrays.items() if name not in COORDINATES}
    assert types.pop("outside_share") == "float64"
    assert (types.pop("counts"), types.pop("status"), types.pop("done")) == ("int64", "uint8", "bool")
    assert set(types.values()) == {"float32"}
    assert np.flatnonzero(group["status"][:] != 1).tolist() == [70]
    assert group["status"][70] == 2


def test_reading_needs_no_torch(recording):
    script = """
import sys
import atmviz
recording = atmviz.open_recording(sys.argv[1])
for layer in ("1_1", "3_18"):
    assert recording.offsets(layer).shape[:2] == recording.mean_abs_offset(layer).shape == (129, 2)
    assert recording.outside_share(layer).shape == (129, 2)
    assert recording.fusion(layer).shape == (129, 3)
    assert recording.counts(layer)[0].sum() > 0
assert "atmviz.recording.store" in sys.modules
loaded = {"torch", "torchvision", "timm"} & set(sys.modules)
assert not loaded, loaded
"""
    subprocess.run([sys.executable, "-c", script, recording.path], check=True)


@pytest.mark.filterwarnings("ignore")  # what xarray and zarr think of each other
def test_xarray_opens_it_with_named_dimensions(recording):
    xarray = pytest.importorskip("xarray")
    dataset = xarray.open_zarr(recording.path, consolidated=False)
    assert set(dataset.data_vars) == {*SHAPES, *ALIASES}
    assert dict(dataset["offset_3_13"].sizes) == {"image": 130, "axis": 2, "offset_index_3_13": 16}
    assert dataset["counts"].dims == ("chunk", "source", "axis", "bin")
    assert dataset["fusion"].dims == ("image", "layer", "branch")
    readable = dataset["status"].values == 1
    expected = recording.distinct_offsets("3_18")
    assert np.array_equal(dataset["offset_3_13"].values[readable], expected)
    assert np.array_equal(dataset.offset_3_18.sel(axis="vertical").values[readable], expected[:, 1])
    assert dataset.image.values[readable].tolist() == recording.images
    weights = dataset.fusion.sel(layer="3_18", image="003.png").values
    assert np.array_equal(weights, recording.fusion("3_18")[3])


def test_a_recording_becomes_an_xarray_dataset_of_its_recorded_images(recording):
    dataset = recording.to_xarray()
    assert dict(dataset.sizes)["image"] == len(recording) == 129
    for layer in ("3_13", "3_18", "1_2"):
        offsets = dataset[f"offset_{layer}"]
        assert np.array_equal(offsets.sel(axis="horizontal"), recording.distinct_offsets(layer)[:, 0])
        assert offsets.attrs["units"] == "tokens"
        site = recording.site(layer)
        assert np.array_equal(dataset.mean_abs_offset.sel(source=site.source), recording.mean_abs_offset(layer))
        assert np.array_equal(dataset.fusion.sel(layer=layer), recording.fusion(layer))
    assert dataset.branch.values.tolist() == ["width", "height", "identity"]
    assert dataset.image.values.tolist() == recording.images


def test_without_xarray_one_line_says_so(recording, monkeypatch):
    monkeypatch.setitem(sys.modules, "xarray", None)
    assert "xarray is not installed" in refusal(recording.to_xarray)


@pytest.mark.parametrize(("layer", "source"), [("3_18", "3_13"), ("3_2", "3_1"), ("2_2", "2_1"), ("4_1", "4_1")])
def test_layers_that_generate_nothing_are_aliases(layer, source, recording):
    for read in ("offsets", "distinct_offsets", "mean_abs_offset", "outside_share"):
        assert np.array_equal(getattr(recording, read)(layer), getattr(recording, read)(source))
    assert all(np.array_equal(a, b) for a, b in zip(recording.counts(layer), recording.counts(source), strict=True))
    title = f"layer_{layer}" if layer == source else f"layer_{layer} (offsets of {source})"
    assert recording.site(layer).label == title


def test_aliases_keep_their_own_fusion_weights(recording):
    assert not np.array_equal(recording.fusion("3_18"), recording.fusion("3_13"))


@pytest.mark.parametrize(
    "name", ["3_18", "3_last", "layer_3_18", "3.18", "stages.2.blocks.17.token_mixer", LayerId(3, 18)]
)
def test_layers_are_named_as_everywhere(name, recording):
    info = recording.site(name)
    assert info.name == "3_18"
    assert info.module == "stages.2.blocks.17.token_mixer"
    assert (info.channels, info.num_offsets, info.channels_per_offset) == (64, 16, 4)
    assert (info.grid, info.query) == ((4, 6), (2, 3))


@pytest.mark.parametrize("name", ["3_19", "5_1", "nonsense", ""])
def test_unknown_layers_are_errors_that_list_the_known_ones(name, recording):
    for read in (recording.site, recording.offsets, recording.counts, recording.fusion):
        assert "3_1 to 3_18" in refusal(read, name, kind=LayerNotFoundError)


@pytest.mark.parametrize(
    ("name", "says"), [("3_*", "'3_*', which is 18 layers: expected one of"), (3, "got 3 as a layer, expected a name")]
)
def test_one_layer_is_read_at_a_time(name, says, recording):
    assert says in refusal(recording.offsets, name, kind=LayerNotFoundError)


def test_a_recording_names_its_layers_in_order(recording):
    assert recording.layers == [site.name for site in recording.sites] == recording.summary()["layers"]
    assert (recording.layers[0], recording.layers[-1]) == ("1_1", "4_2")


def test_an_open_recording_opens_as_itself_and_other_things_are_refused(recording):
    assert open_recording(recording) is recording
    for thing in (3, None, ["recording"]):
        assert "as a recording, expected its folder" in refusal(open_recording, thing, kind=SettingsError)


def test_recording_is_shown_with_its_size(recording):
    assert repr(recording).endswith(f"atmnet_nano on {recording.attrs['dataset']}, 129 images>")


# Damage.


@pytest.mark.parametrize("array", [name for name in SHAPES if name not in ("status", "done")])
@pytest.mark.parametrize("how", ["truncated", "altered"])
def test_damaged_chunk_file_is_noticed(how, array, copied):
    file = next(path for path in sorted((copied / array / "c" / "1").rglob("*")) if path.is_file())
    content = bytearray(file.read_bytes())
    if how == "truncated":
        content = content[: len(content) // 2]
    else:
        content[len(content) // 2] ^= 0xFF
    file.write_bytes(content)
    damaged = open_recording(copied)
    message = refusal(read_all, damaged, array)
    assert repr(array) in message
    assert str(copied) in message


def read_all(recording, array):
    """Read an array as users do."""
    if array.startswith("offset_"):
        recording.offsets(array.removeprefix("offset_"))
    else:
        getattr(recording, array)("3_18")


LOST = [name for name in SHAPES if name not in ("status", "done")]


@pytest.mark.parametrize("array", LOST)
@pytest.mark.parametrize("chunk", ["0", "2"])
def test_lost_chunk_file_is_noticed(chunk, array, copied):
    shutil.rmtree(copied / array / "c" / chunk)
    assert repr(array) in refusal(read_all, open_recording(copied), array)


def test_lost_status_is_noticed(copied):
    (copied / "status" / "c" / "1").unlink()
    refusal(lambda: open_recording(copied).offsets("3_18"))


@pytest.mark.parametrize("array", ["status", "done"])
def test_damaged_status_is_noticed_at_once(array, copied):
    (copied / array / "c" / "0").write_bytes(b"junk")
    assert repr(array) in refusal(open_recording, copied)


def test_undamaged_arrays_of_a_damaged_recording_are_still_read(copied, recording):
    shutil.rmtree(copied / "offset_3_7")
    damaged = open_recording(copied)
    refusal(damaged.offsets, "3_8")
    assert np.array_equal(damaged.offsets("3_18"), recording.offsets("3_18"))


def test_lost_done_mark_is_recorded_again(copied, record, images, recording, arrays):
    (copied / "done" / "c" / "1").unlink()
    assert not open_recording(copied).complete
    record(images, copied)
    assert arrays(copied) == arrays(recording.path)


@pytest.mark.parametrize("content", [None, "", "{", "[]", '{"zarr_format": 3, "node_type": "group", "attributes": {}}'])
def test_damaged_description_is_an_error(content, small, record, images):
    if content is None:
        (small / "zarr.json").unlink()
    else:
        (small / "zarr.json").write_text(content)
    before = sorted(small.rglob("*"))
    for call in (open_recording, lambda path: record(part(images, 0, 4), path)):
        assert str(small) in refusal(call, small)
    assert sorted(small.rglob("*")) == before


@pytest.mark.parametrize("change", [lambda attrs: attrs.pop("layers"), lambda attrs: attrs["layers"][0].pop("kind")])
def test_description_without_layers_is_an_error(change, small):
    description = json.loads((small / "zarr.json").read_text())
    change(description["attributes"])
    (small / "zarr.json").write_text(json.dumps(description))
    assert "damaged" in refusal(open_recording, small)


NESTED = json.loads("[" * 900 + "]" * 900)
SCALAR = {"unit": "1", "description": "", "dtype": "float64", "per": "image", "of": "site"}
SCALAR |= {"separate": False, "dims": [], "shapes": [[]]}
WRONG = [
    *[((key,), value) for key in layout.KINDS if key != "schema_version" for value in (None, 0, True, [0], NESTED)],
    *[(("checkpoint", key), value) for key in ("sha256", "trained") for value in (0, [], {"a": 1})],
    *[(("layers", 0, key), value) for key in ("name", "source", "module", "kind") for value in (0, None, ["1_1"])],
    *[(("layers", 0, key), value) for key in ("name", "source") for value in ("", "../1_1", "1" * 4000)],
    *[
        (("layers", 0, key), value)
        for key in ("channels", "num_offsets", "channels_per_offset")
        for value in (0, -1, 1.5, "2", None, 10**12, 10**400)
    ],
    *[
        (("layers", 0, key), value)
        for key in ("grid", "query", "stride_px")
        for value in (0, [], [1], [1, 2, 3], [-1, 2], [1, 10**12], [1, True], ["1", 1], [0.5, 1])
    ],
    *[(("layers", 0, "branches"), value) for value in ([], [0], "width", ["width"], None)],
    *[(("input_size",), value) for value in ([1], [1, 2, 3], ["a", "b"])],
    *[(("images",), value) for value in ([], ["a"], ["a"] * 10**5)],
    *[(("merged_from",), value) for value in (0, [0], "a")],
    *[(("parts",), value) for value in (4, [], [3], [4, 0], [5, -1], [True, 3], ["4"], [4.0])],
    *[((key,), value) for key in ("versions", "sampling", "model_config", "seed") for value in (NESTED, float("nan"))],
    *[((key,), value) for key in ("sampling", "labels", "masks", "checkpoint_path", "device") for value in ([1], 5)],
    *[(("versions",), value) for value in (5, "a", [1])],
    *[(("checkpoint", key), value) for key in ("layout", "weights", "seed") for value in ([], {}, True)],
    *[(("quantities", index, "dtype"), "uint8") for index in range(len(QUANTITIES))],  # known names with other layouts
    *[(("quantities", index), SCALAR | {"name": QUANTITIES[index].name}) for index in range(len(QUANTITIES))],
    *[(("quantities", 1, "dims"), [dim]) for dim in ("image", "layer", "offset_1_1")],
]


@pytest.fixture
def described(small):
    """Change what a recording says of itself, or of an array."""

    def change(path, value, array="."):
        file = small / array / "zarr.json"
        description = json.loads(file.read_text())
        place = description if array != "." else description["attributes"]
        for key in path[:-1]:
            place = place[key]
        place[path[-1]] = value
        file.write_text(json.dumps(description))
        return small

    return change


@pytest.mark.parametrize(("path", "value"), WRONG, ids=lambda one: str(one)[:40])
def test_descriptions_of_another_kind_are_errors_and_take_no_memory(path, value, described, small, tmp_path):
    described(path, value)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for call in (
        lambda: read_all(open_recording(small), "counts"),
        lambda: merge_recordings([small], tmp_path / "both"),
    ):
        message = refusal(call)
        assert str(small) in message
        assert len(message) < 400
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 100_000  # kB
    assert [path.name for path in tmp_path.iterdir()] == ["small"]


def test_unknown_keys_are_left_out(described, small):
    described(["invented"], NESTED)
    assert "invented" not in open_recording(small).attrs


def test_a_key_that_one_of_two_recordings_lacks_is_a_difference(described, small, record, images):
    described(["checkpoint", "invented"], None)
    message = refusal(record, part(images, 0, 4), small)
    assert "another recording (checkpoint invented is None there and absent here)" in message


def test_what_is_no_list_of_recordings_is_not_merged(small, tmp_path):
    for paths in ([], str(small)):
        assert "expected the folders of several recordings" in refusal(merge_recordings, paths, tmp_path / "both")


def test_image_folders_without_a_common_one_cannot_be_merged(described, halves, small, tmp_path):
    described(["image_root"], "relative")
    assert "cannot be joined" in refusal(merge_recordings, [halves[0], small], tmp_path / "both")


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("shape", [10**12, 2, 12]),
        ("data_type", "float64"),
        ("data_type", ["float32"]),
        ("fill_value", 0),
        ("chunk_grid", {"name": "regular", "configuration": {"chunk_shape": [10**9, 2, 12]}}),
        ("codecs", []),
        ("codecs", [{"name": "bytes", "configuration": {"endian": "big"}}, {"name": "zstd"}]),
        ("codecs", [{"name": "bytes"}, {"name": "gzip", "configuration": {"level": 1}}]),
        ("codecs", {"name": "bytes"}),
        ("node_type", "group"),
        ("zarr_format", 2),
    ],
    ids=str,
)
def test_an_array_of_another_form_is_damaged(key, value, described, small):
    described([key], value, "offset_1_1")
    assert "'offset_1_1'" in refusal(open_recording(small).offsets, "1_1")
    assert len(open_recording(small).offsets("3_1")) == 4


@pytest.mark.parametrize("merged", [True, False])
def test_time_does_not_follow_the_images_that_a_description_claims(merged, described, small):
    images = 10**6
    described(["images"], [str(n) for n in range(images)])
    chunks = images if merged else images // 64
    if merged:
        described(["merged_from"], [])
    for array, count, rows in (("status", images, 64), ("done", chunks, 1)):
        described(["shape"], [count], array)
        described(["chunk_grid"], {"name": "regular", "configuration": {"chunk_shape": [rows]}}, array)
        shutil.rmtree(small / array / "c")
    began = time.process_time()
    if merged:
        assert "'done'" in refusal(open_recording, small)
    else:
        assert len(open_recording(small)) == 0
    assert time.process_time() - began < 5


def first_chunk(path, array):
    return next(file for file in sorted((path / array / "c").rglob("*")) if file.is_file())


def test_a_small_file_cannot_take_much_memory(small):
    chunk = first_chunk(small, "offset_1_1")
    content = Zstd().encode(bytes(10**9))
    assert len(content) < 10**5
    chunk.write_bytes(content)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    assert "'offset_1_1'" in refusal(open_recording(small).offsets, "1_1")
    os.truncate(chunk, 2**40)
    assert "larger" in refusal(open_recording(small).offsets, "1_1")
    os.truncate(small / "zarr.json", 2**40)
    assert str(small) in refusal(open_recording, small)
    # the description's limit is all that may be taken
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 2 * array_files._MAX_DESCRIPTION_BYTES / 1024


@pytest.mark.parametrize("array", ["offset_1_1", "counts", "status", "."])
def test_a_pipe_is_not_waited_for(array, small):
    file = small / "zarr.json" if array == "." else first_chunk(small, array)
    file.unlink()
    os.mkfifo(file)
    refusal(lambda: open_recording(small).offsets("1_1") if array != "counts" else open_recording(small).counts("1_1"))


@pytest.mark.parametrize("linked", ["", "zarr.json", "c", "c/0", "c/0/0/0"])
def test_links_out_of_a_recording_are_not_followed(linked, copied, record, images, tmp_path):
    outside = tmp_path / "outside"
    place = copied / "offset_1_1" / linked
    place.rename(outside)
    place.symlink_to(outside)
    assert "a link" in refusal(open_recording(copied).offsets, "1_1")
    before = {file: file.read_bytes() for file in tmp_path.rglob("*") if file.is_file()}
    shutil.rmtree(copied / "done" / "c" / "0", ignore_errors=True)
    (copied / "done" / "c" / "0").unlink(missing_ok=True)  # or nothing would be written
    assert "moved or changed" in refusal(record, images, copied)
    assert {file: file.read_bytes() for file in outside.rglob("*") if file.is_file()} == {
        file: content for file, content in before.items() if outside in file.parents
    }


def test_a_description_elsewhere_is_not_read(small, tmp_path):
    (small / "zarr.json").rename(tmp_path / "elsewhere")
    (small / "zarr.json").symlink_to(tmp_path / "elsewhere")
    assert "no recording" in refusal(open_recording, small)


def test_what_may_not_be_read_is_said_so(small, monkeypatch):
    for file in (first_chunk(small, "counts"), small / "zarr.json"):

        def read(path, limit, forbidden=file):
            if path == forbidden:
                raise PermissionError(13, "Permission denied", str(path))
            return files.read_limited(path, limit)

        monkeypatch.setattr(array_files, "read_limited", read)
        message = refusal(lambda: open_recording(small).counts("1_1"))
        assert str(file) in message
        assert "Permission denied" in message


@pytest.mark.parametrize("version", [0, 3, "1"])
def test_other_schema_versions_are_errors(version, small, record, images):
    description = json.loads((small / "zarr.json").read_text())
    description["attributes"]["schema_version"] = version
    (small / "zarr.json").write_text(json.dumps(description))
    message = refusal(open_recording, small)
    assert f"schema {version}, expected 1 or 2" in message
    assert description["attributes"]["versions"]["atmviz"] in message
    refusal(record, part(images, 0, 4), small)


def test_other_places_are_no_recordings(tmp_path, folder):
    (tmp_path / "file").write_text("no recording")
    (tmp_path / "empty").mkdir()
    zarr.create_array(tmp_path / "array", shape=(3,), dtype="int8")
    zarr.create_group(tmp_path / "group")
    for place in (tmp_path / "gone", tmp_path / "file", tmp_path / "empty", tmp_path / "array", folder):
        assert str(place) in refusal(open_recording, place)
    assert str(tmp_path / "group") in refusal(open_recording, tmp_path / "group")


def test_recordings_are_told_from_other_folders(recording, folder, tmp_path):
    assert is_recording(recording.path)
    assert not any(map(is_recording, (folder, tmp_path, tmp_path / "gone")))


@pytest.fixture
def schema_1(tmp_path):
    """A recording of the first four images by atmviz of 2026-11-25."""
    with zipfile.ZipFile(Path(__file__).parents[1] / "data" / "recording_schema_1.zip") as file:
        file.extractall(tmp_path)
    return tmp_path / "schema1"


def test_recordings_of_schema_1_are_read(schema_1, small):
    old, new = open_recording(schema_1), open_recording(small)
    assert old.sites == new.sites
    assert old.images == new.images
    for site in new.sites:
        for read in ("offsets", "distinct_offsets", "mean_abs_offset", "outside_share", "fusion"):
            assert np.array_equal(getattr(old, read)(site.name), getattr(new, read)(site.name)), read
        for before, after in zip(old.counts(site.name), new.counts(site.name), strict=True):
            assert np.array_equal(before, after)


def test_recordings_of_schema_1_are_not_continued(schema_1, record, images):
    before = sorted(schema_1.rglob("*"))
    assert "schema_version is 1 there and 2 here" in refusal(record, part(images, 0, 4), schema_1)
    assert sorted(schema_1.rglob("*")) == before


def test_other_places_are_not_written_into(record, images, folder, tmp_path):
    (tmp_path / "file").write_text("no recording")
    before = sorted(folder.iterdir())
    for place in (tmp_path / "file", folder):
        refusal(record, part(images, 0, 4), place)
    assert sorted(folder.iterdir()) == before
    assert (tmp_path / "file").read_text() == "no recording"
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_empty_folder_is_filled(record, images, tmp_path):
    (tmp_path / "out").mkdir()
    assert len(record(part(images, 0, 4), tmp_path / "out").recording) == 4


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
@pytest.mark.parametrize("moves", range(1, 13 + 2 * 4))
def test_a_kill_while_a_recording_is_created_is_made_good(moves, record, images, arrays, small, tmp_path, monkeypatch):
    (tmp_path / "out").mkdir()
    left = iter(range(moves))
    with monkeypatch.context() as patch:
        move = os.replace
        patch.setattr(os, "replace", lambda *paths: move(*paths) if next(left, None) is not None else os._exit(9))
        if not (child := os.fork()):
            record(part(images, 0, 4), tmp_path / "out")
            os._exit(0)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 9
    assert not is_recording(tmp_path / "out")
    files.clear_leftovers.cache_clear()
    record(part(images, 0, 4), tmp_path / "out")
    assert arrays(tmp_path / "out") == arrays(small)
    assert {path.name for path in (tmp_path / "out").iterdir()} == {*SHAPES, *COORDINATES, *ALIASES, "zarr.json"}


@pytest.mark.parametrize(
    "name", ["photo.png", "fusion", "status/c/0", "offset_1_1/notes", "image/000.png", "layer", "offset_3_18/a"]
)
def test_a_folder_with_something_of_the_users_is_not_taken_for_a_begun_recording(name, record, images, tmp_path):
    file = tmp_path / "out" / name
    file.parent.mkdir(parents=True)
    file.write_text("mine")
    assert "choose another folder" in refusal(record, part(images, 0, 4), tmp_path / "out")
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == [file]


@pytest.mark.parametrize("exists", [False, True])
def test_two_that_create_it_at_once_share_it(exists, record, images, arrays, recording, tmp_path, monkeypatch):
    if exists:
        (tmp_path / "out").mkdir()
    plain = writer.create_group

    def overtaken(*arguments):
        monkeypatch.setattr(writer, "create_group", plain)
        record(images, tmp_path / "out", shard="2/2")
        return plain(*arguments)

    monkeypatch.setattr(writer, "create_group", overtaken)
    record(images, tmp_path / "out", shard="1/2")
    assert arrays(tmp_path / "out") == arrays(recording.path)


def test_what_another_process_has_recorded_meanwhile_is_left_as_it_is(record, images, recording, tmp_path, monkeypatch):
    """And never counts as not done, as a figure may be drawn of it at any time."""
    plain = writer.RecordingWriter.write_chunk
    seen = []

    def overtaken(self, chunk, rows):
        monkeypatch.setattr(writer.RecordingWriter, "write_chunk", plain)
        record(images, tmp_path / "out")
        before = {file: file.stat().st_mtime_ns for file in self.path.rglob("*")}
        plain(self, chunk, rows)
        seen.append({file: file.stat().st_mtime_ns for file in self.path.rglob("*")} == before)

    monkeypatch.setattr(writer.RecordingWriter, "write_chunk", overtaken)
    record(images, tmp_path / "out")
    assert seen == [True]


def test_a_recording_that_vanishes_is_an_error_and_not_begun_again(record, images, tmp_path, monkeypatch):
    def vanish(done, total):
        shutil.rmtree(tmp_path / "out", ignore_errors=True)

    assert "moved or changed" in refusal(record, part(images, 0, 4), tmp_path / "out", on_images=vanish)
    assert not list(tmp_path.iterdir())


# Continuing.


@pytest.mark.parametrize(
    ("key", "options"),
    [
        ("batch_size", {"batch_size": 4}),
        ("query", {"query": "0:0"}),
        ("preprocessing", {"preprocessing": Preprocessing((64, 96), "squash")}),
        ("preprocessing", {"preprocessing": Preprocessing((96, 64))}),
        ("layers", {"layers": [LayerId(3, 18)]}),
    ],
)
def test_other_settings_are_refused_and_named(key, options, small, record, images, arrays):
    before = arrays(small)
    message = refusal(record, part(images, 0, 4), small, **options)
    assert f"{key} " in message
    assert "choose another folder" in message
    assert arrays(small) == before


def test_other_images_are_refused_and_named(small, record, images, tmp_path):
    assert "images is" in refusal(record, part(images, 1, 5), small)
    assert "the number of images is 4 there and 3 here" in refusal(record, part(images, 0, 3), small)
    elsewhere = shutil.copytree(images.folder, tmp_path / "elsewhere")
    assert "dataset is" in refusal(record, part(find_images([elsewhere]), 0, 4), small)
    assert "sampling limit is absent there and 4 here" in refusal(record, part(images.sample(4, 0), 0, 4), small)


def test_other_weights_are_refused_and_named(small, record, images):
    other = build(random_checkpoint("atmnet_nano", seed=1)).eval()
    assert "checkpoint sha256 is" in refusal(record, part(images, 0, 4), small, network=other)
    xtiny = load_model("atmnet_xtiny", device="cpu")
    assert "model is atmnet_nano there and atmnet_xtiny here" in refusal(
        record, part(images, 0, 4), small, network=xtiny
    )


def test_images_may_have_moved(small, record, images, tmp_path):
    moved = replace(part(images, 0, 4), folder=shutil.copytree(images.folder, tmp_path / "moved"))
    assert len(record(moved, small).recording) == 4


# Merging.


def test_merged_parts_equal_the_whole(halves, recording, arrays, tmp_path):
    merged = merge_recordings(halves, tmp_path / "merged")
    assert arrays(merged.path) == arrays(recording.path)
    assert merged.complete
    assert merged.attrs["images"] == recording.attrs["images"]
    assert merged.images == recording.images
    assert merged.skipped == ["070.png"]
    assert merged.attrs["merged_from"] == [str(path) for path in halves]
    assert [path.name for path in tmp_path.iterdir()] == ["merged"]


def test_parts_of_any_size_are_joined_in_the_order_given(record, images, tmp_path):
    sizes = {"a": (66, 72), "b": (0, 3), "c": (10, 21)}
    paths = [record(part(images, *span), tmp_path / name).recording.path for name, span in sizes.items()]
    parts = [open_recording(path) for path in paths]
    merged = merge_recordings(paths, tmp_path / "merged")
    assert len(merged) == 5 + 3 + 11
    assert merged.images == [name for part in parts for name in part.images]
    for layer in ("1_2", "3_18"):
        for read in ("offsets", "mean_abs_offset", "outside_share", "fusion"):
            joined = np.concatenate([getattr(part, read)(layer) for part in parts])
            assert np.array_equal(getattr(merged, read)(layer), joined)
        for axis in (0, 1):
            assert np.array_equal(merged.counts(layer)[axis], sum(part.counts(layer)[axis] for part in parts))


def test_sums_by_chunk_and_indices_of_images_are_those_of_the_parts(record, images, tmp_path):
    spans = {"a": (66, 72), "b": (0, 3), "c": (10, 21)}  # of the first, image 4 cannot be read
    paths = [record(part(images, *span), tmp_path / name, keep=["positions"]).recording.path for name, span in
             spans.items()]  # fmt: skip
    inner = merge_recordings(paths[:2], tmp_path / "inner")
    merged = merge_recordings([inner.path, paths[2]], tmp_path / "merged")
    assert merged.part_indices.tolist() == [0, 1, 2, 3, 5, 0, 1, 2, *range(11)]
    assert open_recording(paths[0]).part_indices.tolist() == [0, 1, 2, 3, 5]
    moments = merged.read("moments", "3_18")
    for group in range(16):
        sums = merged.total("positions", "3_18")[group].sum((0, 1))
        assert sums == pytest.approx(moments[merged.part_indices % 16 == group, ..., 0].sum(0), abs=1e-12)
    assert np.array_equal(merged.total("positions", "3_18"), merged.read("positions", "3_13").sum(0))
    assert np.array_equal(merged.total("counts", "3_18"), merged.read("counts", "3_18").sum(0))


def test_merging_again_knows_a_merged_recording_that_does_not_name_its_parts(halves, tmp_path):
    file = merge_recordings(halves, tmp_path / "merged").path / "zarr.json"
    said = json.loads(file.read_text())
    del said["attributes"]["parts"]  # as it was once written
    file.write_text(json.dumps(said))
    assert merge_recordings(halves, tmp_path / "merged").part_indices[:65].tolist() == [*range(65)]


@pytest.mark.parametrize("damage", [lambda file: file.unlink(), lambda file: file.write_bytes(file.read_bytes()[:-9])])
def test_a_lost_or_damaged_sum_of_a_chunk_is_noticed(damage, record, images, tmp_path):
    path = record(part(images, 0, 4), tmp_path / "out", keep=["positions"]).recording.path
    damage(next(file for file in (path / "positions_3_13" / "c").rglob("*") if file.is_file()))
    assert "'positions_3_13'" in refusal(open_recording(path).total, "positions", "3_18")


def test_merged_recording_names_images_of_several_folders(record, images, tmp_path):
    paths = []
    for name in ("left", "right"):
        root = shutil.copytree(images.folder, tmp_path / name)
        paths.append(record(replace(part(images, 0, 2), folder=root), tmp_path / f"{name}_recording").recording.path)
    merged = merge_recordings(paths, tmp_path / "merged")
    assert merged.images == ["left/000.png", "left/001.png", "right/000.png", "right/001.png"]
    assert merged.attrs["image_root"] == str(tmp_path)


def test_incomplete_parts_are_refused(halves, record, images, tmp_path):
    def interrupt(done, total):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        record(part(images, 0, 4), tmp_path / "partial", on_images=interrupt)
    for order in ([halves[0], tmp_path / "partial"], [tmp_path / "partial", halves[0]]):
        message = refusal(merge_recordings, order, tmp_path / "merged")
        assert f"{tmp_path / 'partial'} is incomplete" in message
    assert [path.name for path in tmp_path.iterdir()] == ["partial"]


@pytest.mark.parametrize(
    ("key", "options"),
    [
        ("batch_size", {"batch_size": 4}),
        ("query", {"query": "0:0"}),
        ("layers", {"layers": [LayerId(3, 18)]}),
        ("checkpoint", {"network": lambda: build(random_checkpoint("atmnet_nano", seed=1)).eval()}),
    ],
)
def test_parts_that_differ_are_refused(key, options, halves, record, images, tmp_path):
    if "network" in options:
        options = {"network": options["network"]()}
    other = record(part(images, 0, 4), tmp_path / "other", **options).recording.path
    message = refusal(merge_recordings, [halves[0], other], tmp_path / "merged")
    assert f"differs from {halves[0]} in {key}" in message
    assert not (tmp_path / "merged").exists()


@pytest.mark.parametrize("kind", ["file", "folder", "recording"])
def test_merging_onto_something_is_refused(kind, halves, small, tmp_path):
    target = {"file": tmp_path / "file", "folder": tmp_path / "folder", "recording": small}[kind]
    (tmp_path / "file").write_text("mine")
    (tmp_path / "folder").mkdir()
    assert f"{target} exists" in refusal(merge_recordings, halves, target)
    assert (tmp_path / "file").read_text() == "mine"


def test_merging_again_says_what_is_there(halves, arrays, tmp_path):
    first = merge_recordings(halves, tmp_path / "merged")
    before = {file: file.stat().st_mtime_ns for file in tmp_path.rglob("*")}
    again = merge_recordings(halves, tmp_path / "merged")
    assert again.attrs == first.attrs
    assert {file: file.stat().st_mtime_ns for file in tmp_path.rglob("*")} == before
    assert "exists" in refusal(merge_recordings, halves[::-1], tmp_path / "merged")
    assert "exists" in refusal(merge_recordings, halves[:1], tmp_path / "merged")


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_what_a_killed_merge_left_goes_with_the_next(halves, tmp_path, monkeypatch):
    move = os.rename
    for kill_after in (False, True):
        with monkeypatch.context() as patch:
            patch.setattr(os, "rename", lambda *paths, after=kill_after: (after and move(*paths), os._exit(9)))
            if not (child := os.fork()):
                merge_recordings(halves, tmp_path / "merged")
                os._exit(0)
            assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 9
    assert len(list(tmp_path.iterdir())) == 3
    files.clear_leftovers.cache_clear()
    merge_recordings(halves, tmp_path / "merged")
    assert [path.name for path in tmp_path.iterdir()] == ["merged"]


@pytest.mark.parametrize("array", ["offset_3_7", "outside_share", "counts", "status"])
def test_a_part_that_has_lost_a_chunk_is_not_merged(array, halves, copied, tmp_path):
    file = first_chunk(copied, array)
    file.unlink()
    assert repr(array) in refusal(merge_recordings, [copied], tmp_path / "merged")
    assert [path.name for path in tmp_path.iterdir()] == ["copy"]


def test_merging_a_damaged_part_leaves_nothing(halves, copied, tmp_path):
    (copied / "fusion" / "c" / "1" / "0" / "0").write_bytes(b"junk")
    refusal(merge_recordings, [halves[0], copied], tmp_path / "merged")
    assert [path.name for path in tmp_path.iterdir()] == ["copy"]
