"""How fast atmviz is beside the released arrangement: both sides in one process, in turns, on the same tensors.

The released code samples with `torchvision.ops.deform_conv2d`: offsets repeated for each channel and doubled with
zeros, channels before positions, and the branch's linear layer inside the operator.
"""

import copy
import platform
import statistics
import tempfile
import time
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import timm
import torch
import torch.nn.functional as F
from PIL import Image
from timm.layers import Mlp
from torch import Tensor, nn
from torchvision.ops import deform_conv2d

from atmviz.checkpoints import load_model
from atmviz.data.images import find_images, normalise
from atmviz.errors import AtmvizError
from atmviz.geometry import Preprocessing, map_size
from atmviz.models import COMPILE_OPTIONS
from atmviz.models.atmnet import ChannelMLP
from atmviz.models.token_mixer import ActiveTokenMixer, OffsetLayer
from atmviz.ops import Branch, sample_along
from atmviz.recording.recorder import OffsetRecorder, infer
from atmviz.recording.run import load_inputs, on_device, record_offsets
from atmviz.recording.store import Recording
from atmviz.variants import VARIANTS

OFFSET_SPREAD = 1.5  # standard deviation in tokens, of the offsets that are timed
RELEASED = "released arrangement"
FLOOR = "linear layers and convolutions alone"
# By which the two sides may differ, relative to the largest value: the order of sums, and the width they are kept in
_ROUNDING = {torch.float64: 1e-12, torch.float32: 1e-5, torch.float16: 5e-3, torch.bfloat16: 4e-2}


@dataclass(frozen=True)
class Row:
    """One version of one thing timed.

    Attributes:
        what: What was computed, such as "forward".
        case: On which tensors.
        version: "released arrangement", "eager", "compiled", or a floor.
        milliseconds: Median over the rounds.
        spread: First and third quartile in ms.
        ratio: Median over the rounds of the time of the version it is compared with by this one's, of the same round.
        images: How many the call took, where it took some.
        peak_mb: Largest memory that one call took beyond what was there, on a GPU.
        copy_share: Bytes that must move by the time taken, as a share of what a copy of the input reaches.
    """

    what: str
    case: str
    version: str
    milliseconds: float
    spread: tuple[float, float]
    ratio: float
    images: int | None = None
    peak_mb: float | None = None
    copy_share: float | None = None


def describe_machine(device: torch.device) -> dict[str, Any]:
    """What the numbers were measured with."""
    cpus = [line.split(":")[1].strip() for line in _cpuinfo() if line.startswith("model name")]
    return {
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else (cpus or [platform.machine()])[0],
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "python": platform.python_version(),
        "date": time.strftime("%Y-%m-%d"),
    }


def _cpuinfo() -> list[str]:
    file = Path("/proc/cpuinfo")
    return file.read_text().splitlines() if file.exists() else []


def measure(versions: Mapping[str, Callable[[], Any]], rounds: int, device: torch.device) -> dict[str, list[float]]:
    """Seconds of each version in each round: two calls to warm up, then all versions in turns."""
    for version in versions.values():
        version(), version()
    seconds: dict[str, list[float]] = {name: [] for name in versions}
    for _ in range(rounds):
        for name, version in versions.items():
            _finish(device)
            start = time.perf_counter()
            version()
            _finish(device)
            seconds[name].append(time.perf_counter() - start)
    return seconds


def _finish(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def _rows(
    what: str,
    case: str,
    versions: Mapping[str, Callable[[], Any]],
    rounds: int,
    device: torch.device,
    compared_with: str = RELEASED,
    images: int | None = None,
) -> list[Row]:
    seconds = measure(versions, rounds, device)
    rows = []
    for name, own in seconds.items():
        low, middle, high = statistics.quantiles((1e3 * s for s in own), n=4, method="inclusive")
        ratio = statistics.median(theirs / ours for theirs, ours in zip(seconds[compared_with], own, strict=True))
        rows.append(Row(what, case, name, middle, (low, high), ratio, images, _peak_mb(versions[name], device)))
    return rows


def _peak_mb(version: Callable[[], Any], device: torch.device) -> float | None:
    if device.type != "cuda":
        return None
    torch.cuda.reset_peak_memory_stats(device)
    before = torch.cuda.memory_allocated(device)
    version()
    _finish(device)
    return (torch.cuda.max_memory_allocated(device) - before) / 2**20


# The operator


def sample_as_released(x: Tensor, offset: Tensor, branch: Branch, weight: Tensor, bias: Tensor) -> Tensor:
    """One branch of the released code: sampling and linear layer, [B, H, W, C] from x and offset [B, H, W, O].

    `deform_conv2d` knows no bfloat16; under autocast it computes in float32, and so it does here.
    """
    dtype = torch.promote_types(x.dtype, torch.float32)
    x, offset, weight, bias = (tensor.to(dtype) for tensor in (x, offset, weight, bias))
    offset = offset.repeat_interleave(x.shape[-1] // offset.shape[-1], -1).permute(0, 3, 1, 2)
    still = torch.zeros_like(offset)
    yx = torch.stack([still, offset] if branch == "width" else [offset, still], 2).flatten(1, 2)
    return deform_conv2d(x.permute(0, 3, 1, 2), yx, weight[:, :, None, None], bias).permute(0, 2, 3, 1)


def _sample_then_linear(x: Tensor, offset: Tensor, branch: Branch, weight: Tensor, bias: Tensor) -> Tensor:
    return F.linear(sample_along(x, offset, branch), weight, bias)


def benchmark_operator(
    model: str, size: tuple[int, int], batch_size: int, dtype: torch.dtype, device: torch.device, rounds: int = 15
) -> Iterator[Row]:
    """Times one branch, sampling and its linear layer, on the maps of each stage, forward and forward + backward.

    Raises:
        AtmvizError: the two sides differ on the tensors timed.
    """
    variant = VARIANTS[model]
    for stage, (dim, num_offsets) in enumerate(zip(variant.dims, variant.num_offsets, strict=True)):
        shape = (batch_size, *map_size(size, stage + 1), dim)
        x, grad = (torch.randn(shape, device=device).to(dtype) for _ in range(2))
        offsets = (OFFSET_SPREAD * torch.randn(*shape[:3], 2, num_offsets, device=device)).to(dtype)
        weight, bias = (torch.randn(*s, device=device).to(dtype) / dim**0.5 for s in ((dim, dim), (dim,)))
        for index, branch in enumerate(("width", "height")):
            offset = offsets[..., index, :].detach().requires_grad_()  # a branch's half, as the mixer passes it
            inputs = [x.requires_grad_(), offset, weight.requires_grad_(), bias.requires_grad_()]

            def run(function: Callable[..., Tensor], branch: str = branch, inputs: list[Tensor] = inputs) -> Tensor:
                x, offset, weight, bias = inputs
                return function(x, offset, branch, weight, bias)

            def train(
                function: Callable[..., Tensor], inputs: list[Tensor] = inputs, grad: Tensor = grad, run: Any = run
            ) -> tuple[Tensor, ...]:
                out = run(function)
                return out, *torch.autograd.grad(out, inputs, grad.to(out.dtype), allow_unused=True)

            torch.compiler.reset()  # or it would give up after eight shapes
            compiled = torch.compile(_sample_then_linear)
            sides = {RELEASED: sample_as_released, "eager": _sample_then_linear, "compiled": compiled}
            _assert_same({name: train(function) for name, function in sides.items()})
            sides["linear alone"] = lambda x, offset, branch, weight, bias: F.linear(x, weight, bias)
            name = str(dtype).removeprefix("torch.")
            case = f"{branch} {'×'.join(map(str, shape))}, S = {dim // num_offsets}, {name}"
            both = {name: partial(train, function) for name, function in sides.items()}
            sides["sampling alone"] = lambda x, offset, branch, weight, bias: sample_along(x, offset, branch)
            sides["copy of x"] = lambda x, offset, branch, weight, bias: x.clone()
            with torch.no_grad():
                forward = _rows("forward", case, {n: partial(run, f) for n, f in sides.items()}, rounds, device)
            yield from _with_copy_share(forward, 2 * x.nbytes, 2 * x.nbytes + offset.nbytes)
            yield from _rows("forward + backward", case, both, rounds, device)


def _with_copy_share(rows: list[Row], copied: int, sampled: int) -> list[Row]:
    """Sampling reads x and the offsets once and writes as much as x; a copy reads and writes x."""
    times = {row.version: row.milliseconds for row in rows}
    share = (sampled / times["sampling alone"]) / (copied / times["copy of x"])
    return [replace(row, copy_share=share) if row.version == "sampling alone" else row for row in rows]


def _assert_same(results: dict[str, tuple[Tensor, ...]]) -> None:
    """Every version beside the first."""
    (reference, expected), *others = results.items()
    for name, tensors in others:
        for ours, theirs in zip(tensors, expected, strict=True):
            scale = theirs.abs().max().item()
            difference = (ours.double() - theirs.double()).abs().max().item()
            if not difference <= _ROUNDING[ours.dtype] * scale:
                raise AtmvizError(
                    f"{name} differs from the {reference} by {difference:.2g} of {scale:.2g}: expected rounding alone; "
                    "please report it with this machine's versions"
                )


# Whole networks


class _ReleasedTokenMixer(ActiveTokenMixer):
    """The same layers and parameters, sampling as the released code does."""

    def _embed(self, branch: str, x: Tensor, offset: Tensor | None) -> Tensor:
        if branch == "identity" or offset is None:
            return super()._embed(branch, x, offset)
        linear = getattr(self, f"fc_{branch}")
        own = offset[..., 0, :] if branch == "width" else offset[..., 1, :]
        return sample_as_released(x, own, branch, linear.weight, linear.bias)  # type: ignore[arg-type]


def as_released(network: nn.Module) -> nn.Module:
    """A copy that samples as the released code does, and keeps the activations it keeps."""
    return _with_classes(network, {ActiveTokenMixer: _ReleasedTokenMixer, ChannelMLP: Mlp})


def _with_classes(network: nn.Module, instead: Mapping[type[nn.Module], type[nn.Module]]) -> nn.Module:
    network = copy.deepcopy(network)
    for module in network.modules():
        module.__class__ = instead.get(type(module), type(module))
    return network


def benchmark_model(
    model: str,
    size: tuple[int, int],
    batch_size: int,
    dtype: torch.dtype,
    device: torch.device,
    rounds: int = 9,
) -> Iterator[Row]:
    """Times a whole network: inference, and a training step (forward, loss, backward); half precision by autocast.

    The floor is the time of the network's linear layers and convolutions alone, each on its own input.

    Raises:
        AtmvizError: the two sides differ on the tensors timed.
    """
    network = timm.create_model(model, drop_path_rate=0.0).to(device)
    for module in network.modules():
        if isinstance(module, OffsetLayer):  # of a normed input: offsets of OFFSET_SPREAD tokens
            nn.init.normal_(module.linear.weight, std=OFFSET_SPREAD / module.linear.in_features**0.5)
    released = as_released(network)
    sides: dict[str, Any] = {
        RELEASED: released,
        "eager": network,
        "compiled": torch.compile(network, options=COMPILE_OPTIONS),
    }

    def run(network: Callable[[Tensor], Tensor]) -> Tensor:
        with torch.autocast(device.type, dtype, enabled=dtype != torch.float32):
            return network(images)

    def step(network: Any) -> None:
        run(network).float().logsumexp(-1).mean().backward()
        network.zero_grad()

    images = torch.randn(batch_size, 3, *size, device=device)
    case = f"{model}, {batch_size} images of {size[0]}×{size[1]} px, {str(dtype).removeprefix('torch.')}"
    for what, call in (("inference", run), ("training step", step)):
        network.train(call is step)
        released.train(call is step)
        with torch.set_grad_enabled(call is step):
            _assert_same({name: (run(side).detach().to(dtype),) for name, side in sides.items()})
            layers = _matrix_layers(_with_classes(network, {ChannelMLP: Mlp}), run)
            floor = partial(_run_layers, layers, dtype, train=call is step)
            versions = {**{name: partial(call, side) for name, side in sides.items()}, FLOOR: floor}
            yield from _rows(what, case, versions, rounds, device, images=batch_size)


def _matrix_layers(
    network: nn.Module, run: Callable[[nn.Module], Tensor]
) -> list[tuple[nn.Linear | nn.Conv2d, Tensor]]:
    """Each linear layer and convolution of the network, all called as modules, with its input."""
    found: list[tuple[nn.Linear | nn.Conv2d, Tensor]] = []

    def keep(module: Any, inputs: tuple[Tensor, ...]) -> None:
        found.append((module, inputs[0].detach().requires_grad_(inputs[0].requires_grad)))

    layers = (module for module in network.modules() if isinstance(module, nn.Linear | nn.Conv2d))
    handles = [module.register_forward_pre_hook(keep) for module in layers]
    run(network)
    for handle in handles:
        handle.remove()
    return found


def _run_layers(layers: list[tuple[nn.Linear | nn.Conv2d, Tensor]], dtype: torch.dtype, train: bool) -> None:
    with torch.autocast(layers[0][1].device.type, dtype, enabled=dtype != torch.float32):
        outputs = [layer(inputs) for layer, inputs in layers]
    if train:
        leaves = [
            tensor for layer, inputs in layers for tensor in (inputs, *layer.parameters()) if tensor.requires_grad
        ]
        torch.autograd.grad(outputs, list(dict.fromkeys(leaves)), [out.detach() for out in outputs])


# Recording


def benchmark_record(
    model: str, size: tuple[int, int], batch_size: int, device: torch.device, rounds: int = 7, images: int = 256
) -> Iterator[Row]:
    """Times recording beside plain inference, from JPEG files on, and reading them alone, which is its floor.

    Raises:
        AtmvizError: what was recorded is not what the network used.
    """
    network = load_model(model, device=device)
    released = as_released(network)
    preprocessing = Preprocessing(size)
    with tempfile.TemporaryDirectory() as folder:
        found = find_images([make_photos(Path(folder, "photos"), images)])
        batches = [range(first, min(first + batch_size, images)) for first in range(0, images, batch_size)]

        def read() -> Iterator[Tensor]:
            inputs = load_inputs(found, preprocessing, batches, None, pin_memory=device.type == "cuda")
            for _, pixels, _ in on_device(zip(batches, inputs, strict=True), device):
                assert pixels is not None
                yield pixels

        @torch.inference_mode()
        def infer_all(network: nn.Module) -> None:
            out = [infer(network, normalise(pixels, preprocessing)) for pixels in read()]
            out[-1].cpu()

        def record() -> Recording:
            out = Path(folder, uuid.uuid4().hex)
            return record_offsets(found, out, network, preprocessing=preprocessing, batch_size=batch_size).recording

        _assert_recorded(record(), network, (normalise(pixels, preprocessing) for pixels in read()))
        versions: dict[str, Callable[[], Any]] = {
            "inference": partial(infer_all, network),
            "recording": record,
            f"inference, {RELEASED}": partial(infer_all, released),
            "reading alone": lambda: [None for _ in read()],
        }
        case = f"{model}, {images} JPEGs of 500×375 px at {size[0]}×{size[1]} px, {batch_size} at a time"
        yield from _rows("record", case, versions, rounds, device, compared_with="inference", images=images)


def make_photos(folder: Path, count: int) -> Path:
    """The folder, filled with JPEGs of 500 x 375 px that take as long to decode as photographs do."""
    folder.mkdir(parents=True)
    random = np.random.default_rng(0)
    for index in range(count):
        small = random.integers(0, 256, (30, 40, 3), dtype=np.uint8)
        Image.fromarray(small).resize((500, 375), Image.Resampling.BICUBIC).save(folder / f"{index:05d}.jpg")
    return folder


@torch.inference_mode()
def _assert_recorded(recording: Recording, network: nn.Module, inputs: Iterable[Tensor]) -> None:
    with OffsetRecorder(network) as recorder:
        kept = {source: torch.from_numpy(recording.distinct_offsets(source)) for source in recorder.sources}
        start = 0
        for pixels in inputs:
            infer(network, pixels)
            for source, offsets in kept.items():
                i, j = recording.info(source).query
                used = recorder.offsets[source][:, i, j].cpu()
                _assert_same({"network": (used,), "the recording": (offsets[start : start + len(pixels)],)})
            start += len(pixels)
