"""Hooks that take what every ATM layer declares: its offsets and its fusion weights.

Legend: B batch, H/W grid in tokens, O distinct offsets per direction, C channels.
"""

from collections.abc import Iterable
from types import TracebackType

from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from atmviz.dense import is_detector
from atmviz.errors import AtmvizError, CheckpointError
from atmviz.geometry import Placement, map_size
from atmviz.layers import LayerId, select_layers
from atmviz.models.atmfpn import ATMUnit
from atmviz.models.atmnet import ATMLayer, ATMNet
from atmviz.recording.query import fixed_query
from atmviz.recording.store import LayerInfo


def find_layers(network: nn.Module) -> list[ATMLayer]:
    """Every ATM layer of a network, in order: of the ATMNet that it is or has as its backbone, then of its neck.

    Raises:
        CheckpointError: there are none, or the offsets are fixed to zero.
    """
    network = getattr(network, "_orig_mod", network)  # compiled
    layers = [
        layer._replace(module=f"{path}.{layer.module}".lstrip("."))
        for path, module in network.named_modules()
        if isinstance(module, ATMNet | ATMUnit)
        for layer in module.atm_layers()
    ]
    if not layers:
        raise CheckpointError(f"no ATM layers in this {type(network).__name__}: expected an ATMNet or an ATMFpn neck")
    if not any(layer.num_offsets for layer in layers):
        raise CheckpointError("this ATMNet has its offsets fixed to zero: there are none to record")
    return [layer for layer in layers if layer.num_offsets]


class OffsetRecorder:
    """Keeps what the latest forward pass used, while its `with` block lasts.

    Args:
        network: An ATMNet, or a model around one; not one that was compiled and run before.
        layers: Layers or patterns (`select_layers`); all without it.

    Attributes:
        offsets: By generating layer, [B, H, W, 2, O], tokens; axis 3: horizontal, vertical.
        fusion: By layer, [B, 1, 1, C, branches] or [B, H, W, C, branches].

    Raises:
        LayerNotFoundError: the network has no such layer.

    >>> with OffsetRecorder(network) as recorder:  # doctest: +SKIP
    ...     network(images)
    ...     recorder.offsets[LayerId(3, 13)].shape
    """

    def __init__(self, network: nn.Module, layers: Iterable[LayerId | str] | None = None) -> None:
        self.layers = find_layers(network)
        if layers is not None:
            available = [layer.id for layer in self.layers]
            patterns = [layers] if isinstance(layers, str) else map(str, layers)
            wanted = set(select_layers(patterns, available))
            self.layers = [layer for layer in self.layers if layer.id in wanted]
        self.offsets: dict[LayerId, Tensor] = {}
        self.fusion: dict[LayerId, Tensor] = {}
        self._handles: list[RemovableHandle] = []

    @property
    def sources(self) -> list[LayerId]:
        """The generating layers behind the recorded ones, in order."""
        return list(dict.fromkeys(layer.source for layer in self.layers))

    def offsets_of(self, layer: LayerId | str) -> Tensor:
        """The offsets a layer used, its own or those of its source, [B, H, W, 2, O]."""
        (wanted,) = select_layers([str(layer)], [one.id for one in self.layers])
        return self.offsets[next(one.source for one in self.layers if one.id == wanted)]

    def __enter__(self) -> "OffsetRecorder":
        seen: set[LayerId] = set()
        for layer in self.layers:
            self._keep(layer.mixer.hook_fusion, self.fusion, layer.id)
            if layer.source not in seen:  # one layer's offsets are those of its source: hook the first user only
                seen.add(layer.source)
                self._keep(layer.mixer.hook_offset, self.offsets, layer.source)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for handle in self._handles:
            handle.remove()
        self._handles.clear()

    def _keep(self, point: nn.Module, kept: dict[LayerId, Tensor], layer: LayerId) -> None:
        def hook(module: nn.Module, args: tuple[Tensor, ...], output: Tensor) -> None:
            kept[layer] = output.detach()

        self._handles.append(point.register_forward_hook(hook))


def require_recordable(network: nn.Module) -> None:
    """Raises AtmvizError if the network is in training mode or does not take RGB images."""
    find_layers(network)
    if network.training:
        raise AtmvizError("got a network in training mode, expected evaluation mode: call its eval() first")
    for module in network.modules():
        if isinstance(module, ATMNet) and module.in_chans != 3:
            raise AtmvizError(f"got a network of {module.in_chans} input channels, expected 3 for RGB images")


def infer(network: nn.Module, pixels: Tensor) -> Tensor:
    """One forward pass of [B, 3, H, W] pixels on the network's device and in its dtype.

    Of a detector, backbone and neck are all that runs. A compiled network runs uncompiled: code compiled before a hook
    was added does not call it.
    """
    parameter = next(network.parameters())
    network = getattr(network, "_orig_mod", network)
    if is_detector(network):
        network = network.get_submodule(
            "backbone"
        )  # a detector's heads fetch no tokens, and it would resize the images
    return network(pixels.to(parameter.device, parameter.dtype, non_blocking=True))


def layer_infos(recorder: OffsetRecorder, size: tuple[int, int], query: str = "center") -> list[LayerInfo]:
    """What a recording says of its layers, for an input of (height, width) px.

    Raises:
        QueryError: the query is not one token for all images, or lies outside a layer's map.
    """
    wanted = fixed_query(query)
    whole = Placement(image=size, resized=size, origin=(0, 0), size=size)
    infos = []
    for layer in recorder.layers:
        grid = map_size(size, layer.id.stage)
        infos.append(
            LayerInfo(
                layer=layer.id,
                source=layer.source,
                module=layer.module,
                channels=layer.channels,
                num_offsets=layer.num_offsets,
                share=layer.channels_per_offset,
                map_size=grid,
                query=wanted.token(whole, grid, layer.id.stage),
                branches=layer.mixer.branches,
            )
        )
    return infos
