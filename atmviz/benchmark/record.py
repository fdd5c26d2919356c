"""Times recording, from JPEG files on."""

import shutil
import tempfile
import uuid
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from atmviz.benchmark.model import as_baseline
from atmviz.benchmark.timing import BASELINE, Timing, require_same, time_versions
from atmviz.checkpoints import load_model
from atmviz.data.fitting import normalize_batch
from atmviz.geometry import Preprocessing
from atmviz.observe.hooks import forward_to_sites, observing
from atmviz.recording.batches import load_batches
from atmviz.recording.run import run_recording
from atmviz.recording.settings import RecordingSettings
from atmviz.recording.store import Recording
from atmviz.sources.files import find_images

_DIFFERENT = 512  # photographs that are drawn; further ones are copies


def benchmark_record(
    model: str, size: tuple[int, int], batch_size: int, device: torch.device, rounds: int = 7, images: int = 256
) -> Iterator[Timing]:
    """Time recording beside plain inference; the lower bound is the time of reading the images alone.

    Args:
        model, size, batch_size, device: Variant with random weights, input height and width in px, images per forward
            pass, device.
        rounds, images: Timed calls of each version, and images per call.

    Raises:
        AtmvizError: a recorded offset is not the one that the network used.
    """
    network = load_model(model, device=device)
    baseline = as_baseline(network)
    preprocessing = Preprocessing(size)
    with tempfile.TemporaryDirectory() as folder:
        photos = find_images([make_photos(Path(folder, "photos"), images)])
        batches = [range(first, min(first + batch_size, images)) for first in range(0, images, batch_size)]

        def read() -> Iterator[Tensor]:
            for batch in load_batches(photos, preprocessing, batches, None, device):
                assert batch.pixels is not None
                yield batch.pixels

        @torch.inference_mode()
        def infer_all(network: nn.Module) -> None:
            out = [forward_to_sites(network, normalize_batch(pixels, preprocessing)) for pixels in read()]
            out[-1].cpu()  # wait for a GPU

        def record() -> Recording:
            out = Path(folder, uuid.uuid4().hex)
            settings = RecordingSettings(batch_size=batch_size)
            return run_recording(photos, network, out, settings, preprocessing=preprocessing).recording

        _require_recorded(record(), network, (normalize_batch(pixels, preprocessing) for pixels in read()))
        versions: dict[str, Callable[[], Any]] = {
            "inference": partial(infer_all, network),
            "recording": record,
            f"inference, {BASELINE}": partial(infer_all, baseline),
            "reading alone": lambda: [None for _ in read()],
        }
        case = f"{model}, {images} JPEGs of 500×375 px at {size[0]}×{size[1]} px, {batch_size} at a time"
        yield from time_versions("record", case, versions, rounds, device, reference="inference", images=images)


def make_photos(folder: Path, count: int) -> Path:
    """Fill a folder with JPEGs of 500 x 375 px that take as long to decode as photographs do, and return it."""
    folder.mkdir(parents=True)
    random, names = np.random.default_rng(0), [folder / f"{index:05d}.jpg" for index in range(count)]
    for index, name in enumerate(names):
        if index >= _DIFFERENT:  # drawing takes longer than reading
            shutil.copyfile(names[index % _DIFFERENT], name)
            continue
        small = random.integers(0, 256, (30, 40, 3), dtype=np.uint8)
        Image.fromarray(small).resize((500, 375), Image.Resampling.BICUBIC).save(name)
    return folder


@torch.inference_mode()
def _require_recorded(recording: Recording, network: nn.Module, batches: Iterable[Tensor]) -> None:
    """Check that the recorded offsets are those that the network uses for the same pixels."""
    sources = [site for site in recording.sites if site.is_source]
    recorded = {site: torch.from_numpy(recording.distinct_offsets(site.name)) for site in sources}
    with observing(network) as observed:
        start = 0
        for pixels in batches:
            forward_to_sites(network, pixels)
            for site, offsets in recorded.items():
                i, j = site.query
                used = observed.offsets[site.name][:, i, j].cpu()
                require_same({"network": (used,), "the recording": (offsets[start : start + len(pixels)],)})
            start += len(pixels)
