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


@pytest.fixture
def hub(tmp_path, monkeypatch):
    """A stand-in for the Hugging Face Hub with a few repositories, whose files an empty cache gets."""
    from hub_server import stand_in
    from huggingface_hub import constants

    from atmviz.files import find_checkpoint

    weights = find_checkpoint("atmnet_nano.shapes").read_bytes()
    with stand_in() as server:
        monkeypatch.delenv("HF_TOKEN", raising=False)
        for name, value in {
            "ENDPOINT": server.url,
            "HUGGINGFACE_CO_URL_TEMPLATE": server.url + "/{repo_id}/resolve/{revision}/{filename}",
            "HF_HUB_OFFLINE": False,
            "HF_HUB_CACHE": str(tmp_path / "hub"),
            "HF_TOKEN_PATH": str(tmp_path / "token"),
            "AGENT_HARNESSES_PATH": str(tmp_path / "harnesses.json"),
        }.items():
            monkeypatch.setattr(constants, name, value, raising=False)
        server.private.add("user/private")
        server.repos |= {
            "user/one": {"model.safetensors": weights, "README.md": b"hf://user/two"},
            "user/two": {"a.safetensors": weights, "b.safetensors": weights},
            "user/pickled": {"x.pth": b""},
            "user/private": {"model.safetensors": weights},
            "user/gated": {},
        }
        yield server


@pytest.fixture(scope="session")
def write_recording():
    """`write_recording(folder, {"1_1": offsets}, names)` records chosen offsets [N, H, W, 2, O] by generating layer."""
    from dataclasses import asdict

    import numpy as np

    from atmviz.geometry import Preprocessing
    from atmviz.recording.layout import CHUNK_IMAGES
    from atmviz.recording.sites import RecordedSite
    from atmviz.recording.store import open_recording
    from atmviz.recording.writer import RecordingWriter

    def counts_of(offsets, reach):
        counts = np.zeros((2, 2 * reach + 1), np.int64)
        for axis, size in enumerate(offsets.shape[2:0:-1]):
            nearest = np.clip(np.rint(offsets[:, :, :, axis]), -size, size).astype(int) + reach
            counts[axis] = np.bincount(nearest.ravel(), minlength=2 * reach + 1)
        return counts

    def write(folder, layers, names=None, chunks=None, dataset="made", root="/", **attributes):
        images = len(next(iter(layers.values())))
        names = [f"{n:03}.png" for n in range(images)] if names is None else names
        sites = [
            RecordedSite(
                *(name, name, name, "axis", 4 * field.shape[-1], field.shape[-1], 4),
                stride_px=(2 ** (int(name[0]) + 1),) * 2,
                branches=("width", "height", "identity"),
                grid=field.shape[1:3],
                query=(0, 0),
            )
            for name, field in layers.items()
        ]
        size = [side * stride for side, stride in zip(sites[0].grid, sites[0].stride_px, strict=True)]
        identity = {
            "model": "atmnet_nano",
            "checkpoint": {"sha256": "0" * 64, "trained": True},
            "preprocessing": asdict(Preprocessing(tuple(size))),
            "input_size": size,
            "query": "center",
            "dataset": dataset,
            "images": list(names),
        }
        writer = RecordingWriter(folder, {**identity, **attributes}, {"image_root": root}, sites)
        reach = max(max(site.grid) for site in sites)
        every = range(-(-images // CHUNK_IMAGES))
        for chunk in every if chunks is None else chunks:
            parts = {k: field[chunk * CHUNK_IMAGES :][:CHUNK_IMAGES] for k, field in layers.items()}
            rows = {f"offset_{name}": part[:, 0, 0] for name, part in parts.items()}
            rows["mean_abs_offset"] = np.stack([np.abs(part).mean((1, 2, 4)) for part in parts.values()], 1)
            rows["outside_share"] = np.zeros_like(rows["mean_abs_offset"])
            rows["fusion"] = np.full((len(rows["outside_share"]), len(sites), 3), 1 / 3)
            rows["status"] = np.ones(len(rows["fusion"]))
            rows["counts"] = np.stack([counts_of(part, reach) for part in parts.values()])[None]
            writer.write_chunk(chunk, rows)
        return open_recording(folder)

    return write
