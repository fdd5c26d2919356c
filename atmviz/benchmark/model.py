"""Times whole networks: inference and training steps."""

import copy
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import timm
import torch
from torch import Tensor, nn
from torch.nn.modules.module import register_module_forward_pre_hook

from atmviz.benchmark.operator import OFFSET_SPREAD, sample_by_deform_conv
from atmviz.benchmark.timing import BASELINE, Timing, require_same, time_versions
from atmviz.models import COMPILE_OPTIONS, compile_blocks, set_fused
from atmviz.models.layers import spread_offsets
from atmviz.models.token_mixer import ActiveTokenMixer

PLAIN = "eager, plain layers"
FLOOR = "linear layers and convolutions alone"


class _BaselineTokenMixer(ActiveTokenMixer):
    """A mixer in mode "decoupled" that samples as the released code does."""

    def _embed_branches(self, x: Tensor, offset: Tensor | None) -> list[Tensor]:
        assert offset is not None
        width, height, horizontal, vertical = self.fc_width, self.fc_height, offset[..., 0, :], offset[..., 1, :]
        return [
            sample_by_deform_conv(x, horizontal, "width", width.weight, width.bias),
            sample_by_deform_conv(x, vertical, "height", height.weight, height.bias),
            self.fc_identity(x),
        ]


def as_baseline(network: nn.Module) -> nn.Module:
    """A copy of a network that samples as the released code does and keeps the same activations for training."""
    baseline = plain_copy(network)
    for module in baseline.modules():
        if isinstance(module, ActiveTokenMixer):
            module.__class__ = _BaselineTokenMixer  # the same parameters, sampled otherwise
    return baseline


def plain_copy(network: nn.Module) -> nn.Module:
    """A copy of a network whose channel MLPs and weighted sums use PyTorch's operators."""
    plain = copy.deepcopy(network)
    set_fused(plain, False)
    return plain


def benchmark_model(
    model: str, size: tuple[int, int], batch_size: int, dtype: torch.dtype, device: torch.device, rounds: int = 9
) -> Iterator[Timing]:
    """Time a whole network: inference, and a training step (forward, loss, backward, update of the weights).

    "eager, plain layers" shows what fused channel MLPs and weighted sums gain. The lower bound is the time of the
    network's linear layers and convolutions alone, each on the input it has in the network. A GPU compiles block by
    block.

    Args:
        model, size, batch_size: Variant with random weights, input height and width in px, images per call.
        dtype, device: Precision (other than float32 by autocast) and device.
        rounds: Timed calls of each version.

    Raises:
        AtmvizError: the versions differ on the tensors timed.
    """
    network = timm.create_model(model, drop_path_rate=0.0).to(device)
    spread_offsets(network, OFFSET_SPREAD)
    versions: dict[str, Any] = {BASELINE: as_baseline(network), PLAIN: plain_copy(network), "eager": network}
    versions["compiled"] = _compiled(network, device)
    case = f"{model}, {batch_size} images of {size[0]}×{size[1]} px, {str(dtype).removeprefix('torch.')}"
    task = _Task(torch.randn(batch_size, 3, *size, device=device), dtype)
    updates = {name: _Update(version, dtype) for name, version in versions.items()}
    for is_training in (False, True):
        for version in versions.values():
            version.train(is_training)
        with torch.set_grad_enabled(is_training):
            require_same({name: (task.infer(version).detach().to(dtype),) for name, version in versions.items()})
            calls: dict[str, Callable[[], Any]] = {
                name: partial(task.train, updates[name]) if is_training else partial(task.infer, version)
                for name, version in versions.items()
            }
            layers = _matrix_layers(versions[PLAIN], task.infer)  # plain: fused layers are not called as modules
            calls[FLOOR] = partial(_run_layers, layers, dtype, is_training)
            operation = "training step" if is_training else "inference"
            yield from time_versions(operation, case, calls, rounds, device, images=batch_size)


def _compiled(network: nn.Module, device: torch.device) -> Any:
    if device.type != "cuda":
        return torch.compile(network, options=COMPILE_OPTIONS)
    blocks = copy.deepcopy(network)
    compile_blocks(blocks)
    return blocks


class _Update:
    """The update of a network's weights by AdamW, with a loss scale in float16; the learning rate is 0."""

    def __init__(self, network: nn.Module, dtype: torch.dtype) -> None:
        self.network = network
        device = next(network.parameters()).device.type
        self.optimizer = torch.optim.AdamW(network.parameters(), lr=0.0, fused=device == "cuda")
        self.scaler = torch.amp.GradScaler(device, enabled=dtype == torch.float16)

    def step(self, loss: Tensor) -> None:
        self.scaler.scale(loss).backward()
        self.scaler.step(self.optimizer)
        self.scaler.update()
        self.optimizer.zero_grad()


@dataclass(frozen=True)
class _Task:
    """What is timed of a network, on images [B, 3, H, W]."""

    images: Tensor
    dtype: torch.dtype

    def infer(self, network: Any) -> Tensor:
        with torch.autocast(self.images.device.type, self.dtype, enabled=self.dtype != torch.float32):
            return network(self.images)

    def train(self, update: _Update) -> None:
        update.step(self.infer(update.network).float().logsumexp(-1).mean())


def _matrix_layers(
    network: nn.Module, run: Callable[[nn.Module], Tensor]
) -> list[tuple[nn.Linear | nn.Conv2d, Tensor]]:
    """Return each linear layer and convolution of the network with its input.

    `atmviz.observe` does not know these: it watches the offsets and fusion weights of ATM layers.
    """
    layers: list[tuple[nn.Linear | nn.Conv2d, Tensor]] = []

    def keep(module: Any, inputs: tuple[Tensor, ...]) -> None:
        if isinstance(module, nn.Linear | nn.Conv2d):
            layers.append((module, inputs[0].detach().requires_grad_(inputs[0].requires_grad)))

    with register_module_forward_pre_hook(keep):
        run(network)
    return layers


def _run_layers(layers: Sequence[tuple[nn.Linear | nn.Conv2d, Tensor]], dtype: torch.dtype, train: bool) -> None:
    with torch.autocast(layers[0][1].device.type, dtype, enabled=dtype != torch.float32):
        outputs = [layer(inputs) for layer, inputs in layers]
    if train:
        tensors = [tensor for layer, inputs in layers for tensor in (inputs, *layer.parameters())]
        leaves = dict.fromkeys(tensor for tensor in tensors if tensor.requires_grad)
        torch.autograd.grad(outputs, list(leaves), [out.detach() for out in outputs])
