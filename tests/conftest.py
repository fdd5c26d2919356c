"""Fixtures for all tests: one seed, a small network, and no `gpu` tests without a CUDA device."""

import pytest


def pytest_collection_modifyitems(items):
    gpu_tests = [item for item in items if item.get_closest_marker("gpu")]
    if not gpu_tests:
        return
    import torch

    if not torch.cuda.is_available():
        for item in gpu_tests:
            item.add_marker(pytest.mark.skip(reason="needs a CUDA device"))


def pytest_configure():
    import torch

    torch.set_num_threads(1)  # small tensors: on busy cores a second thread is mostly waited for


@pytest.fixture(autouse=True)
def _seed():
    import torch

    torch.manual_seed(0)


@pytest.fixture
def nano(_seed):
    """The smallest network, in eval mode, with five classes and the same weights in every test."""
    from atmviz.models import create_model

    return create_model("atmnet_nano", num_classes=5).eval()


@pytest.fixture(scope="session")
def labeled_scenes(tmp_path_factory):
    """The folder of a recording, with labels, of 64 drawn scenes at 128 px by the demonstration model."""
    from atmviz.recording.run import record

    out = tmp_path_factory.mktemp("labeled") / "scenes"
    record("shapes", "atmnet_nano.shapes", out=out, limit=64, labels="auto", workers=0, device="cpu")
    return out
