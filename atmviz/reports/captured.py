"""What a recording holds, what it cannot answer, and the command that records more. Torch-free."""

import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from atmviz.architecture import INITIAL
from atmviz.errors import count, join_limited
from atmviz.figures.saving import fingerprint
from atmviz.files import BUNDLED_CHECKPOINTS
from atmviz.hub import is_hub_address
from atmviz.recording.store import Recording
from atmviz.sources import DATASETS
from atmviz.statistics.intervals import MIN_IMAGES
from atmviz.views.claims import describe_size
from atmviz.views.recordings import WITH_OBJECTS, describe_source

_NAMED = 20  # failed images that are named
TRAINED = {True: "trained", False: "untrained", None: "of unknown origin"}


def letters_of(recordings: Sequence[Recording]) -> list[str]:
    """Return the letters of several recordings, from A; of one it is empty."""
    return [chr(ord("A") + k) for k in range(len(recordings))] if len(recordings) > 1 else [""]


@dataclass(frozen=True)
class Missing:
    """A question that a recording cannot answer.

    Attributes:
        question: What is asked.
        why: Why it cannot be answered.
        command: Words of the command that records what is missing; none where no command helps.
    """

    question: str
    why: str
    command: Sequence[str] = ()

    @property
    def line(self) -> str:
        """The command as it is typed."""
        return shlex.join(self.command)


def captured(recording: Recording) -> dict[str, str]:
    """Return what was recorded and what was not, as texts by their names."""
    attrs, sites = recording.attrs, recording.sites
    skipped, listed = recording.skipped, len(attrs["images"])
    sources = [site.name for site in sites if site.is_source]
    state = "" if recording.complete else f", incomplete: {len(recording)} of {listed:,} so far"
    kinds = {site.kind for site in sites}
    axes = ["horizontal and vertical"] * ("axis" in kinds) + ["2-D points, along both axes"] * ("point" in kinds)
    return {
        "network": f"{recording.model}, {TRAINED[recording.trained]}",
        "dataset": attrs["dataset"],
        "images": f"{len(recording):,}{state}",
        "images that failed": f"{len(skipped)}: {join_limited(skipped, _NAMED)}" if skipped else "none",
        "input": f"{describe_size(recording)}; {fitted(recording)}",
        "query token": attrs["query"],
        "layers with offsets of their own": join_limited(sources, 100),
        "layers that reuse them": str(len(sites) - len(sources)),
        "axes": "; ".join(axes),
        "objects": attrs.get("labels") or "none recorded",
        "quantities": ", ".join(recording.quantities),
    }


def fitted(recording: Recording) -> str:
    """Return how images were fitted to the network."""
    dataset = DATASETS.get(recording.attrs["dataset"])
    return "scenes are drawn at this size" if dataset and dataset.is_drawn else recording.preprocessing.describe()


def provenance(recording: Recording) -> dict[str, str]:
    """Return where a recording comes from, as texts by their names; folders of the machine are not disclosed."""
    attrs, weights = recording.attrs, recording.attrs["checkpoint"]
    path = attrs.get("checkpoint_path")
    about = {
        "recording": Path(recording.path).name,
        "fingerprint": fingerprint(describe_source(recording)),
        "SHA-256 of the weights": weights["sha256"],
        "checkpoint": (path if is_hub_address(path) else Path(path).name) if path else "none: drawn or in memory",
        "layout and weights": ", ".join(str(weights[key]) for key in ("layout", "weights") if weights.get(key)),
        "seed": "" if weights.get("seed") is None else str(weights["seed"]),
        "sampling": ", ".join(f"{key} {value}" for key, value in (attrs.get("sampling") or {}).items()),
        "device": attrs.get("device") or "",
        "precision": attrs["precision"],
        "versions": ", ".join(f"{name} {number}" for name, number in (attrs.get("versions") or {}).items()),
        "merged from": str(len(attrs["merged_from"])) + " recordings" if attrs.get("merged_from") else "",
        "the same images again": shlex.join(again(recording)),
    }
    return {name: text for name, text in about.items() if text}


def again(recording: Recording, *extra: str) -> list[str]:
    """Return the words of the command that repeats a recording."""
    return ["atmviz", "record", "--like", Path(recording.path).name, *_weights(recording), *extra, "--out", "more"]


def _weights(recording: Recording) -> list[str]:
    """Return the words that name the weights; a placeholder where nothing names them."""
    path, weights = recording.attrs.get("checkpoint_path"), recording.attrs["checkpoint"]
    if path is None and weights.get("seed") is None:
        return ["-c", "CHECKPOINT"]
    if path is None:
        model = INITIAL * (weights.get("layout") == "initial") + recording.model
        return ["-c", model, "--seed", str(weights["seed"])]
    name = Path(path).name.removesuffix(".safetensors")
    return [] if name in BUNDLED_CHECKPOINTS else ["-c", path if is_hub_address(path) else Path(path).name]


def _with_objects(recording: Recording) -> list[str]:
    """Return the words of the command that records the same kind of images with their objects."""
    attrs, (height, width) = recording.attrs, recording.attrs["input_size"]
    dataset, images = attrs["dataset"], ["IMAGES", "--labels", "MASKS"]
    if dataset in WITH_OBJECTS:
        folder = [] if DATASETS[dataset].is_drawn else ["--data-dir", "DATA"]
        images = ["--dataset", dataset, *folder, "--limit", str(len(attrs["images"])), "--labels", "auto"]
    size = f"{height}x{width}" if height != width else str(height)
    return ["atmviz", "record", *images, "--size", size, *_weights(recording), "--out", "labeled"]


def missing(recording: Recording) -> list[Missing]:
    """Return what a recording cannot answer, why, and the command that records it."""
    kept, found = recording.quantities, list[Missing]()

    def lacks(quantity: str, question: str, why: str, command: Sequence[str]) -> None:
        if quantity not in kept:
            found.append(Missing(question, why, command))

    if not recording.complete:
        done = count(len(recording), "image")
        why = f"{done} of {len(recording.attrs['images']):,} are recorded so far"
        found.append(Missing("All images", f"{why}: run its command again"))
    if len(recording) < MIN_IMAGES:
        why = f"intervals and verdicts need {MIN_IMAGES} images, it holds {len(recording)}"
        found.append(Missing("How sure is a number?", f"{why}: record more images"))
    lacks(
        "hits",
        "Do offsets stay in their segment, follow scale and shape, end at borders?",
        "it knows no objects",
        _with_objects(recording),
    )
    keep = {"distances": "moments", "positions": "positions", "map": "maps"}
    held = [name for quantity, name in keep.items() if quantity in kept]
    for quantity, question in (
        ("distances", "How far do layers reach, as quantiles?"),
        ("positions", "Which part of the offsets depends on content?"),
        ("map", "What does each query sample (the explorer)?"),
    ):
        words = again(recording, "--keep", ",".join(dict.fromkeys([*held, keep[quantity]])))
        lacks(quantity, question, f"it keeps no {keep[quantity]}", words)
    return found
