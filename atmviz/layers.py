"""Layer names: `3_18` <-> module path <-> the layer whose offsets it uses. Torch-free.

The paper's `layer_i_j` is the j-th layer of the i-th stage; both count from 1 here, so `3_18` is `stages.2.blocks.17`.
The units of an ATMFpn are named by their pyramid level: `fpn_c2` takes C2, the first stage's map; `fpn_p2` gives P2.
"""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase

from atmviz.errors import LayerNotFoundError, describe, nearest


@dataclass(frozen=True, order=True)
class LayerId:
    """One ATM layer.

    Attributes:
        stage: 1-based as in the paper; for a unit of a neck the stage whose map it works on, its level - 1.
        index: Within the stage, 1-based; 0 for a unit of a neck.
        unit: "fpn_c" or "fpn_p" for the lateral and output units of a neck, "" in the backbone.

    >>> str(LayerId(3, 18)), str(LayerId(1, 0, "fpn_p"))
    ('3_18', 'fpn_p2')
    """

    stage: int
    index: int
    unit: str = ""

    @classmethod
    def parse(cls, text: str) -> "LayerId":
        """Read `3_18`, `layer_3_18`, `3.18`, the module path or `fpn_p2`; ValueError for anything else."""
        if match := re.fullmatch(r"(?:layer_)?(\d+)[_.](\d+)", text):
            return cls(int(match[1]), int(match[2]))
        if match := re.fullmatch(r"(?:.+\.)?stages\.(\d+)\.blocks\.(\d+)(?:\.token_mixer)?", text):
            return cls(int(match[1]) + 1, int(match[2]) + 1)
        if match := re.fullmatch(r"(fpn_[cp])(\d+)", text):
            return cls(int(match[2]) - 1, 0, match[1])
        raise ValueError(f"no layer label: {text!r}")

    def __str__(self) -> str:
        return f"{self.unit}{self.stage + 1}" if self.unit else f"{self.stage}_{self.index}"


Layers = str | LayerId | Iterable[str | LayerId]
"""What selects layers: a name or pattern, or several."""


def is_offset_source(block: int, depth: int, interval: int) -> bool:
    """Whether 0-based `block` of a stage of `depth` blocks generates offsets.

    Source: Sec. A1 (every K layers). The released code also never generates in a stage's last block.
    """
    return block % interval == 0 and block != depth - 1


def offset_sources(depths: Sequence[int], interval: int) -> dict[LayerId, LayerId]:
    """Return every layer of a network, in order, with the layer whose offsets it uses: itself where it generates them.

    Raises:
        ValueError: a stage of one block, which could not generate offsets, or an interval below 1.

    >>> str(offset_sources((2, 3), 2)[LayerId(2, 3)])
    '2_1'
    """
    if min(depths) < 2 or interval < 1:
        raise ValueError(
            f"got depths {tuple(depths)} and K = {interval}, expected stages of 2 blocks or more (the last never "
            "generates offsets) and K of 1 or more"
        )
    sources: dict[LayerId, LayerId] = {}
    for stage, depth in enumerate(depths, start=1):
        for block in range(depth):
            layer = LayerId(stage, block + 1)
            if is_offset_source(block, depth, interval):
                source = layer
            sources[layer] = source
    return sources


def title_of(name: str) -> str:
    """Return a layer's name in figures: `layer_3_18`; a name of another form stays as it is."""
    return f"layer_{name}" if re.fullmatch(r"\d+_\d+", name) else name


def layer_patterns(layers: Layers) -> tuple[str, ...]:
    """Return layers or patterns as texts, one alone as the only one of several.

    Raises:
        LayerNotFoundError: something else than a text or a `LayerId`.
    """
    several = layers if isinstance(layers, Iterable) and not isinstance(layers, str) else [layers]
    for layer in (several := list(several)):
        if not isinstance(layer, str | LayerId):
            raise LayerNotFoundError(
                f"got {describe(layer)} as a layer, expected a name or pattern such as '3_18', '3_*' or 'all'"
            )
    return tuple(map(str, several))


def figure_patterns(layers: Layers) -> tuple[str, ...]:
    """Return patterns for a figure, in which `all` means `generating`: layers that reuse offsets would look the same.

    >>> figure_patterns("2_1,all")
    ('2_1', 'generating')
    """
    parts = (part.strip() for text in layer_patterns(layers) for part in text.split(","))
    return tuple("generating" if part == "all" else part for part in parts)


def select_layers(patterns: Layers, available: Sequence[str], generating: Sequence[str] | None = None) -> list[str]:
    """Return the names that patterns select, in the order asked for and without repeats.

    A pattern is a name (`3_18`, `layer_3_18`, a module path), a `LayerId`, a glob (`3_*`), `3_last`, `all`,
    `generating` (those that generate the offsets that they use), or several of these joined by commas.

    Raises:
        LayerNotFoundError: a pattern selects no name; the message lists the valid ones.
    """
    selected: dict[str, None] = {}
    for pattern in (part.strip() for text in layer_patterns(patterns) for part in text.split(",")):
        matches = generating if pattern == "generating" and generating else _match(pattern, available)
        if matches:
            selected.update(dict.fromkeys(matches))
        else:
            stages = {name.split("_")[0] for name in available if name[0].isdigit()}
            known = [*("all", "generating"), *(f"{stage}_last" for stage in stages), *available]
            is_number = re.fullmatch(r"(layer_)?\d+[_.]\d+", pattern)  # the nearest text is not the nearest layer
            raise LayerNotFoundError(
                f"no layer {pattern!r}: expected one of {describe_layers(available)}, a glob like '3_*', "
                f"'3_last', 'generating' or 'all'{'' if is_number else nearest(pattern.lower(), known)}"
            )
    return list(selected)


def find_layer(layer: str | LayerId, available: Sequence[str]) -> str:
    """Return the one name that a pattern selects, e.g. "3_18" or "3_last"; see `select_layers`.

    Raises:
        LayerNotFoundError: the pattern selects no name, or several.
    """
    names = [name for pattern in layer_patterns(layer) for name in _match(pattern, available)]
    if len(names) != 1:
        got = f"got {str(layer)!r}, which is {len(names)} layers" if names else f"no layer {str(layer)!r}"
        raise LayerNotFoundError(f"{got}: expected one of {describe_layers(available)}")
    return names[0]


def _match(pattern: str, available: Sequence[str]) -> list[str]:
    if pattern == "all":
        return list(available)
    if match := re.fullmatch(r"(?:layer_)?(\d+)_last", pattern):
        return [name for name in available if re.fullmatch(rf"{match[1]}_\d+", name)][-1:]
    wanted = pattern if pattern in available else _canonical(pattern)
    if wanted in available:
        return [wanted]
    glob = pattern.removeprefix("layer_")
    return [name for name in available if fnmatchcase(name, glob)]


def _canonical(text: str) -> str:
    """Return `layer_3_18`, `3.18` and the module path as `3_18`; other text as it is."""
    try:
        return str(LayerId.parse(text))
    except ValueError:
        return text


def describe_layers(available: Sequence[str]) -> str:
    """Return the names of each stage or kind of unit for one line of an error: `1_1 to 1_2, 2_1 to 2_3`."""
    groups: dict[str, list[str]] = {}
    for name in available:
        groups.setdefault(re.sub(r"_?\d+$", "", name), []).append(name)
    return ", ".join(names[0] if len(names) == 1 else f"{names[0]} to {names[-1]}" for names in groups.values())
