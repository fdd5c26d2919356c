"""Settings of the explorer. Torch-free, without numpy: the command reads its options from here."""

import re
from dataclasses import dataclass

from atmviz.errors import SettingsError, describe
from atmviz.layers import layer_patterns
from atmviz.settings import Settings, setting

MAX_BYTES = 64_000_000
"""Largest page that is written: browsers read it at once."""
_FACTORS = {"": 1, "b": 1, "kb": 10**3, "mb": 10**6}


def parse_bytes(size: str | int) -> int:
    """Return a number of bytes from 5000000, "500kB" or "10MB"; raise SettingsError for anything else.

    >>> parse_bytes("10MB"), parse_bytes("1.5 MB"), parse_bytes(5000)
    (10000000, 1500000, 5000)
    """
    match = re.fullmatch(r"(\d{1,9}(?:\.\d{1,3})?) *([kM]?B?)", str(size), re.IGNORECASE)
    number = int(float(match[1]) * _FACTORS[match[2].lower()]) if match and match[2].lower() in _FACTORS else 0
    if not 0 < number <= MAX_BYTES:
        raise SettingsError(f"got max_size {describe(size)}, expected a size like 500kB or 10MB, at most 64MB")
    return number


@dataclass(frozen=True)
class ExplorerSettings(Settings):
    """What a page of the explorer holds."""

    layers: tuple[str, ...] = setting(
        (),
        "Layers: 3_18, 3_*, 3_last, all; repeatable; by default all.",
        "Page",
        flags=("--layer",),
        read=layer_patterns,
    )
    max_images: int = setting(12, "Images on the page; the first ones are taken.", "Page", 1, 100)
    max_size: str | int = setting(
        "10MB",
        "Largest size of the page, as 500kB or 10MB, at most 64MB; what is left out to keep it is said on the page.",
        "Page",
        read=parse_bytes,
    )
    share_safe: bool = setting(False, "Leave out photographs, outlines of objects, file names and paths.", "Page")
