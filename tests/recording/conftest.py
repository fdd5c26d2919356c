"""One small network, one folder of small images with an unreadable one, their recording, and a naive one of the same.

Everything runs in one thread, so that equal runs are equal to the bit.
"""

import numpy as np
import pytest
import torch
from PIL import Image

from atmviz.checkpoints import load_model
from atmviz.data.fitting import preprocess
from atmviz.events import Events
from atmviz.geometry import Preprocessing
from atmviz.recording.quantities import QUANTITIES
from atmviz.recording.run import run_recording
from atmviz.recording.settings import RecordingSettings
from atmviz.sources import open_source
from atmviz.sources.decoding import load_image
from atmviz.sources.files import find_images

SIZE = (64, 96)  # not square, so that axes cannot be swapped unseen
NUM_IMAGES = 130  # three chunks: 64, 64 and 2
UNREADABLE = 70
BATCH = 8


@pytest.fixture(scope="session", autouse=True)
def _one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="session")
def network():
    return load_model("atmnet_nano", device="cpu")


@pytest.fixture(scope="session")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("images")
    random = np.random.default_rng(0)
    for index in range(NUM_IMAGES):
        pixels = random.integers(0, 256, (48, 64, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"{index:03}.png")
    (folder / f"{UNREADABLE:03}.png").write_bytes(b"no picture")
    return folder


@pytest.fixture(scope="session")
def images(folder):
    return find_images([folder])


@pytest.fixture(scope="session")
def record(network):
    """`run_recording` with the settings of all these tests, unless told otherwise; two functions receive events."""

    def record(
        images,
        out,
        network=network,
        on_images=None,
        message=None,
        quantities=QUANTITIES,
        preprocessing=None,
        **settings,
    ):
        events = Events()
        if on_images:
            events.images = on_images
        if message:
            events.message = message
        images = open_source(images) if isinstance(images, list) else images
        settings = {"workers": 0, "batch_size": BATCH} | settings
        return run_recording(
            images,
            network,
            out,
            RecordingSettings(**settings),
            preprocessing=preprocessing or Preprocessing(SIZE),
            events=events,
            quantities=quantities,
        )

    return record


@pytest.fixture(scope="session")
def result(record, images, tmp_path_factory):
    return record(images, tmp_path_factory.mktemp("recordings") / "whole")


@pytest.fixture(scope="session")
def recording(result):
    return result.recording


@pytest.fixture(scope="session")
def arrays():
    """Everything stored in a recording, to the bit."""
    zarr = pytest.importorskip("zarr")  # which machines with a GPU often lack

    def arrays(path):
        return {name: (array.shape, array[...].tobytes()) for name, array in zarr.open_group(path, mode="r").arrays()}

    return arrays


@pytest.fixture(scope="session")
def naive(network, images):
    """All there is: offsets [N, H, W, 2, O] by generating layer, fusion weights [N, C, branches] by layer."""
    seen = {}
    handles = [
        module.register_forward_hook(lambda module, args, output, name=name: seen.setdefault(name, []).append(output))
        for name, module in network.named_modules()
        if name.endswith((".offset", ".token_mixer.fusion"))
    ]
    readable = [index for index in range(NUM_IMAGES) if index != UNREADABLE]
    with torch.inference_mode():
        for start in range(0, NUM_IMAGES, BATCH):
            batch = [index for index in readable if start <= index < start + BATCH]
            inputs = [preprocess(load_image(images.path(index)), Preprocessing(SIZE))[0] for index in batch]
            network(torch.cat(inputs))
    for handle in handles:
        handle.remove()

    def label(name):
        _, stage, _, block, *_ = name.split(".")
        return f"{int(stage) + 1}_{int(block) + 1}"

    tensors = {name: torch.cat(parts) for name, parts in seen.items()}
    offsets = {label(name): t.numpy() for name, t in tensors.items() if name.endswith(".offset")}
    fusion = {
        label(name): t.reshape(len(t), -1, 3).softmax(-1).numpy()
        for name, t in tensors.items()
        if name.endswith(".fusion")
    }
    return offsets, fusion
