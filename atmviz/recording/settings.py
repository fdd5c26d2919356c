"""What decides a recording besides images and network. Torch-free."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, get_args

from atmviz.choices import CROP_OR_SQUASH, FitChoice
from atmviz.errors import SettingsError, describe, nearest
from atmviz.geometry import Preprocessing
from atmviz.layers import layer_patterns
from atmviz.recording.label_quantities import Keep
from atmviz.recording.query import recorded_query
from atmviz.settings import setting

Precision = Literal["fp32", "tf32", "bf16"]
DEFAULT_BATCH = {"cuda": 64, "cpu": 8}
"""Images per forward pass by device; others take that of the CPU."""


def kept_names(names: str | Sequence[str]) -> tuple[Keep, ...]:
    """Return what to keep, from one name or several, also with commas; raise SettingsError for other names."""
    texts = [names] if isinstance(names, str) else names
    asked = [word.strip().lower() for text in texts for word in str(text).split(",")]
    if unknown := [word for word in asked if word not in get_args(Keep)]:
        known = get_args(Keep)
        raise SettingsError(f"got keep {unknown[0]!r}, expected {', '.join(known)}{nearest(unknown[0], known)}")
    return tuple(name for name in get_args(Keep) if name in asked)


def parse_shard(shard: str | tuple[int, int]) -> tuple[int, int]:
    """Return (K, N) from "K/N"; raise SettingsError if K is not from 1 to N."""
    try:
        part, parts = map(int, shard.split("/") if isinstance(shard, str) else shard)
    except (TypeError, ValueError):
        part = parts = 0
    if not 1 <= part <= parts:
        raise SettingsError(f"got shard {describe(shard)}, expected K/N with K from 1 to N, as in 2/4")
    return part, parts


@dataclass(frozen=True)
class RecordingSettings(FitChoice):
    """How images are recorded; `fit` gives all of them one size, because a recording has one map size.

    Attributes:
        layers: Layers, by name or pattern; all without it. See `atmviz.layers.select_layers`.
        query: The token whose offsets are kept: "center", fractions of the input ("0.3,0.6") or "ROW:COL".
        batch_size: Images per forward pass; batches do not reach across the chunks of 64 images. Without it, as many
            as before where a recording is continued, else 64 on a GPU and 8 elsewhere.
        precision: In which the network is run. A GPU has "tf32" too.
        workers: Processes that decode images; chosen from the number of images and cores without it.
        shard: (K, N), made of "K/N", records the K-th of N parts; N machines with one folder fill one recording.
        strict: Fail at the first unreadable image instead of leaving it out.
        labels: "auto" also records what offsets hit among the objects that the dataset knows; a folder does so with
            masks of the images' names. See `recording.label_quantities`.
        keep: What else is recorded: "moments" (sums of o, o^2 and |o|), "positions" (sums at each token, and moments),
            "maps" (every offset).

    Raises:
        SettingsError, LayerNotFoundError, QueryError: a value of another type, or outside its range.
    """

    fit: Literal["crop", "squash"] | None = setting(None, f"{CROP_OR_SQUASH} By default crop.", "Data")
    layers: tuple[str, ...] = setting(
        (),
        "Layers: 3_18, 3_*, 3_last, all; repeatable; by default all.",
        "Model",
        flags=("--layer",),
        read=layer_patterns,
    )
    query: str = setting(
        "center",
        "center, fractions 0.3,0.6 of the input, or ROW:COL in tokens; not px, grid or random, which are no one token.",
        "Model",
        read=recorded_query,
    )
    batch_size: int | None = setting(
        None,
        "Images per forward pass; by default 64 on a GPU, 8 elsewhere.",
        "Model",
        1,
        flags=("--batch-size", "-b"),
    )
    precision: Precision = setting(  # noqa: RUF009
        "fp32", "Precision of the network: fp32 (IEEE, in every layer), tf32 (on a GPU) or bf16.", "Model"
    )
    workers: int | None = setting(
        None, "Processes that decode images; by default one a core, at most 8.", "Model", 0, flags=("--workers", "-j")
    )
    shard: tuple[int, int] = setting(
        "1/1", "K/N: record the K-th of N parts; all may share one folder.", "Data", read=parse_shard
    )
    strict: bool = setting(False, "Stop at the first unreadable image.", "Data")
    labels: str | None = setting(
        None,
        "Also record what offsets hit: auto takes the objects of the dataset (shapes, ade20k, coco), a folder masks of "
        "the images' names. By default none.",
        "Keep",
        read=str,
    )
    keep: tuple[Keep, ...] = setting(
        (),
        "Also keep moments (of each offset), positions (sums by token), maps (every offset); repeatable. "
        "By default none.",
        "Keep",
        read=kept_names,
    )

    def preprocessing_of(self, title: str) -> Preprocessing:
        """Return how the images of a source of that title are fitted."""
        from atmviz.sources import DATASETS

        return self.preprocessing(title if title in DATASETS else None)
