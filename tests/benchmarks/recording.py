"""Recording against plain inference in one process, and its peak memory: the numbers in the README.

python tests/benchmarks/recording.py [--model atmnet_nano] [--size 224] [--batch-size 8] [--rounds 7]
"""

import argparse
import json
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from atmviz.checkpoints import load_model, pick_device
from atmviz.data import find_images
from atmviz.data.images import normalise
from atmviz.geometry import Preprocessing
from atmviz.recording.run import _loader, record_offsets

IMAGES = 256


def make_images(folder: Path, count: int) -> None:
    rng = np.random.default_rng(0)
    for index in range(count):
        small = rng.integers(0, 256, (30, 40, 3), dtype=np.uint8)
        Image.fromarray(small).resize((500, 375), Image.Resampling.BICUBIC).save(folder / f"{index:05d}.jpg")


def infer_all(network, images, preprocessing, batch_size, device) -> float:
    """Seconds to decode and infer every image, through the recorder's own loader."""
    start = time.perf_counter()
    batches = [range(first, min(first + batch_size, len(images))) for first in range(0, len(images), batch_size)]
    with torch.inference_mode():
        for pixels, _ in _loader(images, preprocessing, batches, workers=0):
            output = network(normalise(pixels.to(device), preprocessing))
    output.cpu()
    return time.perf_counter() - start


def record_all(network, images, preprocessing, batch_size) -> float:
    with tempfile.TemporaryDirectory() as folder:
        start = time.perf_counter()
        record_offsets(images, f"{folder}/r", network, preprocessing=preprocessing, batch_size=batch_size, workers=0)
        return time.perf_counter() - start


def peak_memory_mb(images: int, model: str, size: int) -> float:
    """Peak resident memory of a fresh process that records this many images."""
    script = (
        "import resource, sys, tempfile\n"
        "from atmviz import record_offsets\n"
        "from atmviz.geometry import Preprocessing\n"
        "with tempfile.TemporaryDirectory() as out:\n"
        f"    record_offsets([sys.argv[1]], out + '/r', {model!r}, preprocessing=Preprocessing(({size}, {size})))\n"
        "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)\n"
    )
    with tempfile.TemporaryDirectory() as folder:
        make_images(Path(folder), images)
        output = subprocess.run(
            [sys.executable, "-c", script, folder], check=True, capture_output=True, text=True
        ).stdout
    return float(output.splitlines()[-1])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="atmnet_nano")
    parser.add_argument("--size", type=int, default=224)
    parser.add_argument("--batch-size", type=int, default=8)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--memory", action=argparse.BooleanOptionalAction, default=True)
    options = parser.parse_args()
    device = pick_device(options.device)
    network = load_model(options.model, device=device)
    preprocessing = Preprocessing((options.size, options.size))
    with tempfile.TemporaryDirectory() as folder:
        make_images(Path(folder), IMAGES)
        images = find_images([folder])
        plain, recorded = [], []
        for round_ in range(options.rounds + 1):
            times = (
                infer_all(network, images, preprocessing, options.batch_size, device),
                record_all(network, images, preprocessing, options.batch_size),
            )
            if round_:  # the first warms up
                plain.append(times[0])
                recorded.append(times[1])
    ratios = [r / p for r, p in zip(recorded, plain, strict=True)]
    result = {
        "model": options.model,
        "size": options.size,
        "device": str(device),
        "plain_images_per_s": round(IMAGES / statistics.median(plain), 1),
        "recording_images_per_s": round(IMAGES / statistics.median(recorded), 1),
        "ratio_median": round(statistics.median(ratios), 3),
        "ratio_min_max": [round(min(ratios), 3), round(max(ratios), 3)],
        "torch": torch.__version__,
        "python": platform.python_version(),
        "threads": torch.get_num_threads(),
    }
    if options.memory:
        result["peak_mb_100_images"] = round(peak_memory_mb(100, options.model, options.size))
        result["peak_mb_1000_images"] = round(peak_memory_mb(1000, options.model, options.size))
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
