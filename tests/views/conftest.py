"""A small recording, a cache of its own, and a folder to write to."""

import numpy as np
import pytest
from PIL import Image

from atmviz.geometry import Preprocessing
from atmviz.models import create_model
from atmviz.recording.run import run_recording
from atmviz.sources import open_source


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("ATMVIZ_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    return tmp_path / "cache"


@pytest.fixture(scope="session")
def photos(tmp_path_factory):
    """A folder of two images, 48 pixels high and 72 wide."""
    folder = tmp_path_factory.mktemp("noise")
    for name, pixels in zip("ab", np.random.default_rng(0).integers(0, 255, (2, 48, 72, 3), np.uint8), strict=True):
        Image.fromarray(pixels).save(folder / f"{name}.png")
    return folder


@pytest.fixture(scope="session")
def recorded(photos, tmp_path_factory):
    """The folder of a recording of both images at 64 x 64 px."""
    network = create_model("atmnet_nano", num_classes=5).eval()
    out = tmp_path_factory.mktemp("recorded") / "out"
    run_recording(open_source(photos), network, out, preprocessing=Preprocessing((64, 64), "squash"))
    return out
