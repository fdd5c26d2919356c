"""Which images and layers two recordings share, and what is left out of their comparison."""

from dataclasses import dataclass

import numpy as np

from atmviz.errors import LayerNotFoundError, count
from atmviz.layers import Layers, describe_layers, select_layers
from atmviz.recording.store import Recording
from atmviz.statistics.intervals import MIN_IMAGES

Rows = tuple[np.ndarray, np.ndarray]
"""Rows of A and rows of B."""


@dataclass(frozen=True)
class MatchedImages:
    """Which images of recordings A and B are compared.

    Attributes:
        images: Rows of arrays per image; if paired, the same images in the same order.
        chunks: Rows of arrays per chunk; if paired, chunks of the same images.
        is_paired: Whether each image of A is compared with itself in B.
        are_chunks_paired: Whether the chunks hold the images of `images` and no others.
        left_out: What is not compared, in a sentence each.
    """

    images: Rows
    chunks: Rows
    is_paired: bool
    are_chunks_paired: bool
    left_out: tuple[str, ...]


def match_images(a: Recording, b: Recording) -> MatchedImages:
    """Find the images that two recordings share, by dataset and name; of drawn scenes, by seed too.

    Fewer than 8 shared images are not compared with themselves, unless they are all images of a recording. Where the
    shared images fill whole chunks of both, no other chunk is compared.
    """
    rows = [{name: row for row, name in enumerate(recording.images)} for recording in (a, b)]
    shared = [name for name in rows[0] if name in rows[1]] if _dataset(a) == _dataset(b) else []
    every = tuple(np.arange(len(recording.read("counts", recording.layers[0]))) for recording in (a, b))
    if not shared or len(shared) < min(MIN_IMAGES, len(a), len(b)):
        alone = f"the recordings share {count(len(shared), 'image')}: all images of both are compared, unpaired"
        return MatchedImages((np.arange(len(a)), np.arange(len(b))), every, False, False, (alone,))  # type: ignore[arg-type]
    images = tuple(np.array([own[name] for name in shared]) for own in rows)
    chunks = _shared_chunks(a, b, shared)
    left_out = []
    if (only := len(a) + len(b) - 2 * len(shared)) and chunks:
        left_out.append(f"{count(only, 'image')} of one recording alone: not compared")
    elif only:
        left_out.append(
            f"{count(only, 'image')} of one recording alone: not in reach and difference, but in the histograms and "
            "W1, which count chunks of images"
        )
    return MatchedImages(images, chunks or every, True, chunks is not None, tuple(left_out))  # type: ignore[arg-type]


def have_same_images(a: Recording, b: Recording) -> bool:
    """Whether two recordings hold the same images in the same order, so that rows are pairs."""
    return _dataset(a) == _dataset(b) and a.images == b.images


def _dataset(recording: Recording) -> tuple:
    """Return what two recordings of images with equal names must have in common."""
    sampling = recording.attrs.get("sampling") or {}
    return recording.attrs["dataset"], None if recording.attrs["image_root"] else sampling.get("seed")


def _shared_chunks(a: Recording, b: Recording, shared: list[str]) -> Rows | None:
    """Return the rows of chunks that hold the same images in both; None where these are not all shared images."""
    if a.chunk_images is None or b.chunk_images is None:
        return None
    places = {tuple(names): row for row, names in enumerate(b.chunk_images)}
    pairs = [(row, places[tuple(names)]) for row, names in enumerate(a.chunk_images) if tuple(names) in places]
    if sum(len(a.chunk_images[row]) for row, _ in pairs) != len(shared):
        return None
    first, second = np.array(pairs).T
    return first, second


def match_layers(a: Recording, b: Recording, layers: Layers = ()) -> tuple[list[str], tuple[str, ...]]:
    """Return the layers to compare, and what is left out of them, in a sentence each.

    Args:
        a, b: The recordings.
        layers: Names or patterns of layers; by default all that generate offsets in both.

    Raises:
        LayerNotFoundError: the recordings have no layer in common, or a pattern selects none that both have.
    """
    common = [name for name in a.layers if name in b.layers]
    if not common:
        raise LayerNotFoundError(
            f"got layers {describe_layers(a.layers)} in {a.path} and {describe_layers(b.layers)} in {b.path}, expected "
            "some in common: record the same layers of both"
        )
    generating = [[site.name for site in recording.sites if site.is_source] for recording in (a, b)]
    both = [name for name in generating[0] if name in generating[1]]
    try:
        chosen = select_layers(layers or ("generating" if both else "all"), common, both)
    except LayerNotFoundError as error:
        raise LayerNotFoundError(f"{a.path} and {b.path}: {error}") from None
    if layers:
        return chosen, ()
    alone = [[name for name in names if name not in chosen] for names in generating]
    said = [f"in {which} alone: {', '.join(names)}" for which, names in zip("AB", alone, strict=True) if names]
    return chosen, (f"layers that generate offsets {'; '.join(said)}",) * bool(said)


def describe_differences(a: Recording, b: Recording) -> list[str]:
    """Return how the recordings differ in what is not compared, or makes it harder to compare, a sentence each."""
    said = []
    sizes = ["×".join(map(str, recording.attrs["input_size"])) for recording in (a, b)]
    if sizes[0] != sizes[1]:
        said.append(f"inputs of {sizes[0]} and {sizes[1]} px: maps differ in size, for which w1_percent allows")
    if a.preprocessing.fit != b.preprocessing.fit:
        said.append(f"images fitted by {a.preprocessing.fit} and {b.preprocessing.fit}: they show different parts")
    precisions = [recording.attrs["precision"] for recording in (a, b)]
    if precisions[0] != precisions[1]:
        said.append(f"computed in {precisions[0]} and {precisions[1]}: offsets differ by rounding too")
    if a.attrs["query"] != b.attrs["query"]:
        said.append(f"query tokens {a.attrs['query']} and {b.attrs['query']}: not compared; all else is of every token")
    return said
