"""Interventions: what a network uses in place of its learned offsets, to measure what these are worth.

Torch-free: torch is there already where offsets are changed.

Legend: B batch, H/W grid in tokens, O distinct offsets per direction.
"""

import math
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Literal

from atmviz.errors import SettingsError, describe, nearest
from atmviz.observe.site import Site

if TYPE_CHECKING:
    from torch import Tensor

    from atmviz.observe.hooks import Edit

References = Callable[[Site, "Tensor"], "Tensor"]
"""Takes a site and its offsets [B, H, W, 2, O], and returns those of other images to use instead."""


@dataclass(frozen=True)
class InterventionKind:
    """A kind of intervention.

    Attributes:
        name: Name, before the colon.
        change: Takes offsets [B, H, W, 2, O], the argument, and what a random draw depends on: seed and source. None
            for kinds that use offsets of other images.
        argument: Letter and meaning of the argument; "" without one.
        low: Smallest argument.
        finite: Whether the argument has to be finite.
    """

    name: str
    change: "Callable[[Tensor, float, tuple[int, str]], Tensor] | None" = None
    argument: str = ""
    low: float = -math.inf
    finite: bool = True

    @property
    def pattern(self) -> str:
        """How it is written: `zero`, `clamp:R`."""
        return f"{self.name}:{self.argument[0]}" if self.argument else self.name


def _shuffle(offset: "Tensor", _: float, key: tuple[int, str]) -> "Tensor":
    """Permute the tokens of offsets [B, H, W, 2, O], alike in all images and in all sites that use one source."""
    import torch

    from atmviz.data.keyed import seed_of

    height, width = offset.shape[1:3]
    generator = torch.Generator().manual_seed(seed_of(*key, height, width))
    order = torch.randperm(height * width, generator=generator).to(offset.device)
    return offset.flatten(1, 2)[:, order].view_as(offset)


KINDS = {
    kind.name: kind
    for kind in (
        InterventionKind("zero", lambda o, *_: o.new_zeros(o.shape)),
        InterventionKind("constant"),  # each offset's mean over calibration images and tokens
        InterventionKind("position"),  # its mean over calibration images at the same token
        InterventionKind("other"),  # the offsets of the same token in another image
        InterventionKind("shuffle", _shuffle),
        InterventionKind("mirror", lambda o, *_: -o),
        InterventionKind("swap", lambda o, *_: o.flip(3)),  # horizontal and vertical
        InterventionKind("clamp", lambda o, most, _: o.clamp(-most, most), "R, a number of tokens", 0, finite=False),
        InterventionKind("round", lambda o, *_: o.round()),  # to whole tokens
        InterventionKind("scale", lambda o, factor, _: o * factor, "F, a factor"),
    )
}
"""Kinds of interventions by name."""


@dataclass(frozen=True)
class Intervention:
    """An intervention: a kind with its argument, NaN without one."""

    kind: InterventionKind
    argument: float = math.nan

    def __str__(self) -> str:
        number = str(self.argument).removesuffix(".0")  # all digits, so that the text says the same
        return f"{self.kind.name}:{number}" if self.kind.argument else self.kind.name

    @classmethod
    def parse(cls, text: str) -> "Intervention":
        """Read `zero` or `clamp:2`.

        Raises:
            SettingsError: there is no such kind, or its argument is missing, not needed or out of range.

        >>> str(Intervention.parse("clamp:0.50"))
        'clamp:0.5'
        """
        name, _, given = text.partition(":") if isinstance(text, str) else ("", "", "")
        kind = KINDS.get(name)
        if kind is None or (given and not kind.argument):
            expected = ", ".join(kind.pattern for kind in KINDS.values())
            raise SettingsError(f"got intervention {describe(text)}, expected {expected}{nearest(name.lower(), KINDS)}")
        if not kind.argument:
            return cls(kind)
        argument = _number(given)
        if not argument >= kind.low or (kind.finite and math.isinf(argument)):
            range_ = f", {kind.low:g} or more" if kind.low > -math.inf else ""
            raise SettingsError(f"got intervention {describe(text)}, expected {kind.pattern}: {kind.argument}{range_}")
        return cls(kind, argument + 0.0)  # -0 is 0


def _number(text: str) -> float:
    """Return the number that a text is; NaN where it is none."""
    with suppress(ValueError):
        return float(text)
    return math.nan


def read_interventions(values: "str | Intervention | Iterable[str | Intervention]") -> tuple[str, ...]:
    """Return interventions as texts, each once; several arguments of one kind may follow each other.

    Raises:
        SettingsError: see `Intervention.parse`.

    >>> read_interventions("zero,clamp:0.5,1,2")
    ('zero', 'clamp:0.5', 'clamp:1', 'clamp:2')
    """
    several = [values] if isinstance(values, str | Intervention) or not isinstance(values, Iterable) else values
    read, name = [], ""
    for part in (part.strip().lower() for value in several for part in str(value).split(",")):
        if ":" in part:
            name = part.split(":")[0]
        elif part not in KINDS and name and not math.isnan(_number(part)):
            part = f"{name}:{part}"
        read.append(str(Intervention.parse(part)))
    return tuple(dict.fromkeys(read))


def edits_of(
    intervention: Intervention | str, sites: Sequence[Site], seed: int = 0, references: References | None = None
) -> "dict[str, Edit]":
    """Return the edits of sites for `observing`.

    Args:
        intervention: What to do, see `KINDS`; "learned" changes nothing.
        sites: Sites of a network.
        seed: Seed of the permutations of "shuffle".
        references: Offsets of other images, for the kinds that use them; see `atmviz.observe.references`.

    Raises:
        SettingsError: another intervention.
        ValueError: offsets of other images are needed, and not given.
    """
    if intervention == "learned":
        return {}
    intervention = intervention if isinstance(intervention, Intervention) else Intervention.parse(intervention)
    change = intervention.kind.change
    if change is None:
        if references is None:
            raise ValueError(f"got intervention {intervention} without the offsets of other images")
        return {site.name: partial(references, site) for site in sites}
    return {site.name: _edit(change, intervention.argument, (seed, site.source)) for site in sites}


def _edit(
    change: "Callable[[Tensor, float, tuple[int, str]], Tensor]", argument: float, key: tuple[int, str]
) -> "Edit":
    return lambda offset: change(offset, argument, key)


def group_sites(sites: Sequence[Site], by: Literal["layer", "stage"] | None = None) -> dict[str, list[Site]]:
    """Return the sites that are changed together, by name.

    Args:
        sites: Sites of a network.
        by: "layer": each layer that generates offsets, with those that reuse them, named like it. "stage": each stage,
            as "stage 3", and the neck. None: all of them, as "all".
    """
    groups: dict[str, list[Site]] = {}
    for site in sites:
        stage = site.source.split("_")[0]
        of_stage = f"stage {stage}" if stage.isdigit() else "neck"
        name = site.source if by == "layer" else of_stage if by == "stage" else "all"
        groups.setdefault(name, []).append(site)
    return groups
