"""A network of random weights whose offsets spread over a few tokens."""

import pytest

from atmviz.checkpoints import load_model


@pytest.fixture(scope="session")
def network():
    return load_model("atmnet_nano", device="cpu")
