"""Recordings with maps: three photographs by two networks, and a labeled one of drawn scenes."""

import pytest

from atmviz.checkpoints import load_model
from atmviz.geometry import Preprocessing
from atmviz.recording.run import run_recording
from atmviz.recording.settings import RecordingSettings
from atmviz.sources import bundled_photos, open_source

SIZE = (96, 160)  # not square, so that axes cannot be swapped unseen
KEPT = RecordingSettings(keep=("maps",), workers=0)


@pytest.fixture(scope="session")
def record(tmp_path_factory):
    """`record(images, checkpoint, settings)` records images at 96 x 160 px."""

    def record(images, checkpoint="atmnet_nano.shapes", settings=KEPT):
        out = tmp_path_factory.mktemp("recordings") / "out"
        network = load_model(checkpoint, device="cpu")
        return run_recording(images, network, out, settings, preprocessing=Preprocessing(SIZE)).recording

    return record


@pytest.fixture(scope="session")
def photographs():
    photos = bundled_photos()
    return open_source([photos.path(0).with_name(f"{name}.jpg") for name in ("astronaut", "cat", "rocket")])


@pytest.fixture(scope="session")
def recording(record, photographs):
    return record(photographs)


@pytest.fixture(scope="session")
def other(record, photographs):
    """The same photographs by random weights."""
    return record(photographs, "atmnet_nano")


@pytest.fixture(scope="session")
def labeled(tmp_path_factory):
    """Eight scenes with the objects on them."""
    settings = RecordingSettings(keep=("maps",), labels="auto", workers=0)
    out = tmp_path_factory.mktemp("labeled") / "out"
    network = load_model(device="cpu")
    return run_recording(open_source("shapes", size=(64, 64)).sample(8, 0), network, out, settings).recording
