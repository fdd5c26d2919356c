"""Quantities: what is declared is recorded, resumed, merged and read, without a line anywhere else."""

import os
import signal
import subprocess
import sys
import textwrap
from dataclasses import replace

import numpy as np
import pytest
import torch

import atmviz
from atmviz.errors import RecordingFormatError, SettingsError
from atmviz.recording.merge import merge_recordings
from atmviz.recording.quantities import QUANTITIES, Quantity
from atmviz.recording.store import open_recording

# One of each kind: per image or summed over a chunk, of a source or a site, in one array or in one for each.
LARGEST = Quantity(
    name="largest",
    unit="tokens",
    description="largest |offset| over all tokens",
    dims=("axis",),
    dtype="float32",
    shape=lambda sites: (2,),
    reduce=lambda batch: batch.offsets.abs().amax((1, 2, 4)),
)
SQUARES = Quantity(
    name="squares",
    unit="tokens^2",
    description="sum of squared offsets over all tokens, by distinct offset",
    dims=("axis", "offset_index_{source}"),
    dtype="float64",
    per="chunk",
    separate=True,
    shape=lambda sites: (2, sites[0].num_offsets),
    reduce=lambda batch: batch.offsets.double().square().sum((0, 1, 2)),
)
IDENTITY = Quantity(
    name="identity",
    unit="1",
    description="largest weight of the identity branch",
    dims=(),
    dtype="float32",
    of="site",
    reduce=lambda batch: batch.fusion[..., -1].amax((1, 2, 3)),
)
TOYS = (LARGEST, SQUARES, IDENTITY)
ALL = (*QUANTITIES, *TOYS)


def require_right(recording, naive):
    """The toys equal what follows from the offsets and fusion weights of every token."""
    offsets, fusion = naive
    for layer, source in (("3_18", "3_13"), ("1_1", "1_1")):
        np.testing.assert_array_equal(recording.read("largest", layer), np.abs(offsets[source]).max((1, 2, 4)))
        squares = recording.read("squares", layer).sum(0)
        np.testing.assert_allclose(squares, np.square(offsets[source].astype(float)).sum((0, 1, 2)), rtol=1e-12)
        np.testing.assert_allclose(recording.read("identity", layer), fusion[layer][..., -1].max(1), rtol=1e-6)


def test_a_declared_quantity_is_recorded_beside_the_others(record, images, naive, recording, tmp_path):
    ours = record(images, tmp_path / "out", quantities=ALL).recording
    require_right(ours, naive)
    assert np.array_equal(ours.offsets("3_18"), recording.offsets("3_18"))
    assert list(ours.quantities) == [quantity.name for quantity in ALL]
    assert ours.quantities["squares"].unit == "tokens^2"
    dataset = ours.to_xarray()
    assert dataset.largest.dims == ("image", "source", "axis")
    assert dataset.identity.dims == ("image", "layer")
    assert dataset.squares_3_13.dims == ("chunk", "axis", "offset_index_3_13")


@pytest.mark.parametrize(
    ("quantities", "says"),
    [
        (["offset"], "got 'offset' as a quantity, expected an atmviz.Quantity"),
        (QUANTITIES[0], "as quantities, expected several"),
        (None, "got None as quantities, expected several"),
    ],
)
def test_what_is_no_quantity_is_refused(record, images, tmp_path, quantities, says):
    with pytest.raises(SettingsError, match=says):
        record(images, tmp_path / "out", quantities=quantities)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("parts", [[], "recording"])
def test_what_are_no_recordings_is_not_merged(parts, tmp_path):
    with pytest.raises(RecordingFormatError, match="expected the folders of several recordings"):
        merge_recordings(parts, tmp_path / "out")


def test_a_recording_may_hold_declared_quantities_alone(record, images, naive, tmp_path):
    ours = record(images, tmp_path / "out", quantities=TOYS).recording
    require_right(ours, naive)
    with pytest.raises(RecordingFormatError, match=r"no 'counts' in .*: expected one of largest, squares, identity"):
        ours.counts("3_18")


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs processes that can be forked and killed")
def test_a_declared_quantity_survives_a_kill_to_the_bit(folder, record, images, arrays, tmp_path):
    script = textwrap.dedent("""
        import importlib.util, os, signal, sys
        import torch
        from atmviz.checkpoints import load_model
        from atmviz.events import Events
        from atmviz.geometry import Preprocessing
        from atmviz.recording.run import run_recording
        from atmviz.recording.settings import RecordingSettings
        from atmviz.sources import open_source

        torch.set_num_threads(1)
        spec = importlib.util.spec_from_file_location("toys", sys.argv[3])
        toys = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(toys)
        events = Events()
        events.images = lambda done, total: done >= 120 and os.kill(os.getpid(), signal.SIGKILL)
        run_recording(
            open_source(sys.argv[1]), load_model("atmnet_nano", device="cpu"), sys.argv[2],
            RecordingSettings(workers=0, batch_size=8), preprocessing=Preprocessing((64, 96)), events=events,
            quantities=toys.ALL,
        )
    """)
    command = [sys.executable, "-c", script, folder, tmp_path / "out", __file__]
    assert subprocess.run(command, check=False).returncode == -signal.SIGKILL
    assert not open_recording(tmp_path / "out").complete
    record(images, tmp_path / "out", quantities=ALL)
    record(images, tmp_path / "whole", quantities=ALL)
    assert arrays(tmp_path / "out") == arrays(tmp_path / "whole")


def test_declared_quantities_are_merged(record, images, naive, tmp_path):
    for name, chosen in (("a", slice(0, 64)), ("b", slice(64, 130))):
        record(replace(images, names=images.names[chosen]), tmp_path / name, quantities=ALL)
    require_right(merge_recordings([tmp_path / "a", tmp_path / "b"], tmp_path / "both"), naive)


def test_recordings_of_other_quantities_are_other_recordings(record, images, tmp_path):
    few = replace(images, names=images.names[:2])
    record(few, tmp_path / "out")
    with pytest.raises(RecordingFormatError, match=r"another recording .*quantities"):
        record(few, tmp_path / "out", quantities=ALL)


def test_quantities_are_part_of_the_public_call(folder, network, tmp_path):
    recording = atmviz.record(
        folder / "000.png", network, out=tmp_path / "out", size=64, workers=0, quantities=(LARGEST,)
    )
    assert recording.read("largest", "3_18").shape == (1, 2)


@pytest.mark.parametrize("name", ["status", "image", "counts", "Largest", "../largest"])
def test_names_that_are_taken_or_no_names_are_refused(name, record, images, tmp_path):
    few = replace(images, names=images.names[:2])
    with pytest.raises(ValueError, match=r"two (arrays|quantities) named|quantity"):
        record(few, tmp_path / "out", quantities=(*QUANTITIES, replace(LARGEST, name=name)))
    assert not (tmp_path / "out").exists()


def test_values_that_are_not_finite_are_an_error(record, images, tmp_path):
    odd = replace(LARGEST, reduce=lambda batch: torch.full((len(batch.offsets), 2), torch.nan))
    with pytest.raises(atmviz.AtmvizError, match="largest holds NaN"):
        record(replace(images, names=images.names[:2]), tmp_path / "out", quantities=(odd,))


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"name": "a b"}, "has name a b, expected small letters, digits and _"),
        ({"dtype": "float16"}, "has dtype float16, expected one of float32"),
        ({"per": "batch"}, "has per batch, expected image or chunk"),
        ({"dims": ("axis", "bin")}, "has shapes .*, expected one size for each of its dims"),
        ({"name": "offset"}, "two quantities named offset"),
        ({"name": "offset_3_18"}, "two arrays named offset_3_18"),  # of which one is a link
        ({"dims": ("bin",)}, "dim bin has 2 entries in largest, 49 elsewhere: rename it"),
        ({"dims": ("image",)}, "dim image of largest is another dim or an array too"),
        ({"dims": ("offset_1_1",)}, "dim offset_1_1 of largest is another dim or an array too"),
        ({"shape": lambda sites: (2**20,)}, "dim axis has 1048576 entries in largest, 2 elsewhere"),
        (
            {"dims": ("x",), "shape": lambda sites: (2**26,)},
            "64 images make more than 268,435,456 bytes of largest: record them smaller",
        ),
    ],
)
def test_a_declaration_that_cannot_be_recorded_says_what_is_wrong(change, says, record, images, tmp_path):
    few = replace(images, names=images.names[:2])
    with pytest.raises(SettingsError, match=says):
        record(few, tmp_path / "out", quantities=(*QUANTITIES, replace(LARGEST, **change)))
    assert not (tmp_path / "out").exists()


def test_maps_of_each_site_need_dims_of_their_own(record, images, tmp_path):
    few = replace(images, names=images.names[:2])
    maps = replace(LARGEST, name="maps", separate=True, shape=lambda sites: sites[0].grid)
    maps = replace(maps, reduce=lambda batch: batch.offsets.mean((3, 4)))
    with pytest.raises(SettingsError, match="dim row has 8 entries in maps_2_1, 16 elsewhere"):
        record(few, tmp_path / "out", quantities=(replace(maps, dims=("row", "column")),))
    ours = record(few, tmp_path / "out", quantities=(replace(maps, dims=("row_{source}", "column_{source}")),))
    assert ours.recording.to_xarray().maps_2_1.shape == (2, 8, 12)


@pytest.mark.parametrize(
    ("change", "got"),
    [
        ({"reduce": lambda batch: batch.offsets.mean()}, r"\[\] of float32, expected \[2, 2\] of float32"),
        ({"reduce": lambda batch: batch.offsets.mean((1, 2, 3, 4))}, r"\[2\] of float32"),
        ({"reduce": lambda batch: batch.offsets.mean((1, 2, 3))[:, :1]}, r"\[2, 1\] of float32"),
        ({"dtype": "int32"}, "of float32, expected .* of int32"),
        ({"reduce": lambda batch: batch.offsets.mean((1, 2, 4)).to(torch.complex64)}, "of complex64"),
        ({"per": "chunk"}, r"\[2, 2\] of float32, expected \[2\] of float32"),
    ],
)
def test_values_of_another_shape_or_kind_than_declared_are_refused(change, got, record, images, tmp_path):
    few = replace(images, names=images.names[:2])
    with pytest.raises(atmviz.AtmvizError, match=f"largest was reduced to .*{got}"):
        record(few, tmp_path / "out", quantities=(*QUANTITIES, replace(LARGEST, **change)))


@pytest.mark.parametrize("per", ["image", "chunk"])
def test_whole_numbers_that_the_type_cannot_hold_are_refused(per, record, images, tmp_path):
    few = replace(images, names=images.names[: 4 * 8])
    shape = (lambda batch: (len(batch.offsets), 2)) if per == "image" else (lambda batch: (2,))
    full = replace(LARGEST, per=per, reduce=lambda batch: torch.full(shape(batch), 100 if per == "chunk" else 400))
    with pytest.raises(atmviz.AtmvizError, match="largest holds up to 400, more than uint8 can"):
        record(few, tmp_path / "small", quantities=(replace(full, dtype="uint8"),))
    right = record(few, tmp_path / "right", quantities=(replace(full, dtype="int16"),)).recording.read("largest", "1_1")
    assert (right == 400).all()


def test_values_of_half_precision_are_kept_exactly(record, images, tmp_path):
    few = replace(images, names=images.names[:2])
    halved = replace(LARGEST, reduce=lambda batch: batch.offsets.abs().amax((1, 2, 4)).bfloat16())
    exact = record(few, tmp_path / "exact", quantities=(LARGEST,)).recording.read("largest", "1_1")
    kept = record(few, tmp_path / "halved", quantities=(halved,)).recording.read("largest", "1_1")
    np.testing.assert_array_equal(kept, torch.from_numpy(exact).bfloat16().float().numpy())


def test_quantities_may_come_from_an_iterator(record, images, tmp_path):
    few = replace(images, names=images.names[:2])
    recording = record(few, tmp_path / "out", quantities=iter((LARGEST,))).recording
    assert recording.read("largest", "1_1").shape == (2, 2)
