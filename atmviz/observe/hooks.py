"""The forward hooks of the project: they watch the offsets and fusion weights of sites, and change offsets.

Legend: B batch, H/W grid in tokens, C channels, O distinct offsets per direction.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

from torch import Tensor, nn

from atmviz.dense import is_detector
from atmviz.errors import AtmvizError, CheckpointError, SettingsError, describe, require_type
from atmviz.layers import Layers, describe_layers
from atmviz.models.atmfpn import ATMUnit
from atmviz.models.atmnet import ATMNet
from atmviz.observe.site import BySite, Site, select_sites

Edit = Callable[[Tensor], Tensor]
"""Takes the offsets of a site, [B, H, W, 2, O] in tokens, and returns those to use instead."""


@dataclass(frozen=True)
class Observation:
    """Offsets and fusion weights of the latest forward pass, by site: "3_18", "3_last" or a `LayerId`.

    Attributes:
        offsets: [B, H, W, 2, O] in tokens; axis 3: horizontal, vertical. A site that reuses offsets holds those of its
            source.
        fusion: Fusion weights, [B, 1, 1, C, branches] or [B, H, W, C, branches].
    """

    offsets: BySite[Tensor] = field(default_factory=BySite)
    fusion: BySite[Tensor] = field(default_factory=BySite)


def find_sites(network: nn.Module, patterns: Layers = "all") -> list[Site]:
    """Return the sites of a network: those of the ATMNet that it is or contains, then those of its neck.

    Args:
        network: A network, compiled or not.
        patterns: Which sites: "3_18", "3_*", "3_last", "all", a `LayerId`, or several of these.

    Returns:
        The sites, in the order asked for.

    Raises:
        SettingsError: something else than a network.
        CheckpointError: there are none, the offsets are fixed to zero, or two sites have one name.
        LayerNotFoundError: a pattern names no site.
    """
    network = _uncompiled(network)
    layers = [
        replace(layer, module=f"{path}.{layer.module}".lstrip("."))
        for path, module in network.named_modules()
        if isinstance(module, ATMNet | ATMUnit)
        for layer in module.atm_layers()
    ]
    if not layers:
        raise CheckpointError(f"no ATM layers in this {type(network).__name__}: expected an ATMNet or an ATMFpn neck")
    sites = [layer for layer in layers if layer.num_offsets]
    if not sites:
        raise CheckpointError("this ATMNet has its offsets fixed to zero: there are none to record")
    modules: dict[str, str] = {}
    for site in sites:
        if (other := modules.setdefault(site.name, site.module)) != site.module:
            raise CheckpointError(
                f"got several ATMNets in one {type(network).__name__} ({other} and {site.module} are both layer "
                f"{site.name}), expected one: take one of them"
            )
    return select_sites(patterns, sites)


@contextmanager
def observing(
    network: nn.Module, sites: Sequence[Site | str] | str = "all", edits: Mapping[str, Edit] | None = None
) -> Iterator[Observation]:
    """Watch what sites use in every forward pass within the `with` block, and change it where asked.

    Args:
        network: A network; not one that was compiled and run before (`forward_to_sites` takes those too).
        sites: Sites of the network, or patterns of `find_sites`.
        edits: By name of a site: what changes its offsets before they are used. Sites that reuse these offsets see the
            original ones, unless they have an edit too.

    Yields:
        What the sites used in the latest forward pass.

    Raises:
        SettingsError: an edit is for a site that is not among `sites`, is no function, or returns something else than
            offsets of the same shape.
        LayerNotFoundError, CheckpointError: see `find_sites`.

    >>> with observing(network) as observed:  # doctest: +SKIP
    ...     network(images)
    ...     observed.offsets["3_18"].shape, observed.fusion["3_18"].shape
    """
    network = _uncompiled(network)
    several = sites if isinstance(sites, Iterable) and not isinstance(sites, str) else [sites]
    named = [s for item in several for s in ([item] if isinstance(item, Site) else find_sites(network, item))]
    chosen = {site.name: site for site in named}  # each once, however often it is named
    edits = _checked_edits(edits, list(chosen))
    observation = Observation()
    with ExitStack() as stack:
        for site in chosen.values():
            mixer: Any = network.get_submodule(site.module)
            offset_hook = _watcher(observation.offsets, site.name, edits.get(site.name))
            stack.enter_context(mixer.hook_offset.register_forward_hook(offset_hook))
            stack.enter_context(mixer.hook_fusion.register_forward_hook(_watcher(observation.fusion, site.name)))
        yield observation


def _checked_edits(edits: Mapping[str, Edit] | None, names: Sequence[str]) -> dict[str, Edit]:
    require_type(edits, Mapping | None, "edits", "functions by name of a site, as in {'3_18': torch.zeros_like}")
    checked = {str(layer): edit for layer, edit in (edits or {}).items()}
    for name, edit in checked.items():
        if name not in names:
            raise SettingsError(f"got an edit of {name}, expected one of {describe_layers(names)}")
        require_type(edit, Callable, f"the edit of {name}", "a function that takes and returns offsets")
    return checked


def _watcher(seen: dict[str, Tensor], name: str, edit: Edit | None = None) -> Callable[..., Tensor]:
    """Return a hook that keeps a tensor under a name, after it was edited."""

    def hook(module: nn.Module, args: tuple[Tensor, ...], value: Tensor) -> Tensor:
        edited = edit(value.clone()) if edit else value  # an edit in place leaves what other sites reuse
        if not isinstance(edited, Tensor) or edited.shape != value.shape:
            got = f"offsets {list(edited.shape)}" if isinstance(edited, Tensor) else describe(edited)
            raise SettingsError(f"the edit of {name} gave {got}, expected offsets {list(value.shape)} as before")
        seen[name] = edited.detach()
        return edited

    return hook


def require_observable(network: nn.Module) -> None:
    """Raise AtmvizError if a network has no sites, is in training mode or does not take RGB images."""
    find_sites(network)
    if network.training:
        raise AtmvizError("got a network in training mode, expected evaluation mode: call its eval() first")
    for module in network.modules():
        if isinstance(module, ATMNet) and module.in_chans != 3:
            raise AtmvizError(f"got a network of {module.in_chans} input channels, expected 3 for RGB images")


def forward_to_sites(network: nn.Module, pixels: Tensor) -> Tensor:
    """Run as much of a network as has sites on pixels [B, 3, H, W], moved to its device and dtype.

    Of a detector this is the backbone with the neck: the heads sample nothing, and the whole would resize the images.
    A compiled network runs uncompiled, because code compiled before a hook was added does not call it.
    """
    parameter = next(network.parameters())
    network = _uncompiled(network)
    if is_detector(network):
        network = network.get_submodule("backbone")
    return network(pixels.to(parameter.device, parameter.dtype, non_blocking=True))


def _uncompiled(network: nn.Module) -> nn.Module:
    require_type(network, nn.Module, "a network", "an open one, as atmviz.load_model returns it")
    return getattr(network, "_orig_mod", network)
