"""The figures of a report, each with a caption, as pictures that a page holds. Torch-free."""

from base64 import b64encode
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from atmviz.errors import AtmvizError, count
from atmviz.figures.saving import save_figure
from atmviz.figures.style import Look
from atmviz.recording.store import Recording
from atmviz.reports.captured import Missing, letters_of
from atmviz.statistics.claims import generating_sites, samples_of
from atmviz.statistics.intervals import MIN_IMAGES
from atmviz.views.adaptivity import draw_adaptivity
from atmviz.views.claims import draw_claims
from atmviz.views.comparison import draw_comparison
from atmviz.views.depth import draw_depth
from atmviz.views.drawn import DrawnFigure
from atmviz.views.histograms import draw_histogram

_LOOK: dict[str, Any] = {"width": "column", "title": False}  # a column can be read on a phone


@dataclass(frozen=True)
class Kind:
    """A kind of figure.

    Attributes:
        name: Its heading.
        needs: The quantity of a recording that it is made of.
        draw: Draws it.
        caption: What it shows; N is added.
    """

    name: str
    needs: str
    draw: Callable[..., DrawnFigure]
    caption: str


KINDS = (
    Kind(
        "Histograms",
        "offset",
        draw_histogram,
        "Channels by the nearest offset of the query token, horizontally and vertically, in layers of three depths.",
    ),
    Kind(
        "Reach against depth",
        "distances",
        draw_depth,
        "Median, middle 50 % and 95 % of |offset| of all tokens, in tokens, in each layer that generates offsets; and "
        "the median of the untrained network by formula (quantiles/1).",
    ),
    Kind(
        "Claims",
        "mean_abs_offset",
        draw_claims,
        "Each measure with its 95 % interval over images, and in gray its null: the same without what is claimed. "
        "Filled markers are decided after Holm's correction over layers and axes.",
    ),
    Kind(
        "Adaptivity",
        "positions",
        draw_adaptivity,
        "Shares of the mean square of offsets that are constant, and that depend on the position, the image and the "
        "content (variance_shares/1).",
    ),
)
COMPARISON = Kind(
    "Comparison",
    "counts",
    draw_comparison,
    "Offsets of all tokens of A and B over each other, with their Wasserstein-1 distance in tokens (wasserstein1/1); "
    "mean |offset| of each image; reach against depth.",
)
DIFFERENCES = Kind(
    "Differences of claims",
    "mean_abs_offset",
    draw_claims,
    "Effects of A less those of B, paired by image, with 95 % intervals over images.",
)


@dataclass(frozen=True)
class Shown:
    """A figure of a report.

    Attributes:
        kind: What it is.
        letters: The recordings that it shows, "A" or "A, B".
        drawn: The figure.
        caption: What it shows, of how many images.
    """

    kind: Kind
    letters: str
    drawn: DrawnFigure
    caption: str

    def picture(self) -> str:
        """Return the figure as the address of an SVG, with its letters as outlines; equal figures have equal texts."""
        look = Look.of(self.drawn.style)
        look = replace(look, rc={**look.rc, "svg.fonttype": "path"})  # a phone has not the font
        with TemporaryDirectory() as folder:
            (file,) = save_figure(self.drawn.figure, [Path(folder) / "figure.svg"], self.drawn.about, look=look)
            return f"data:image/svg+xml;base64,{b64encode(file.read_bytes()).decode()}"


def figures_of(recordings: Sequence[Recording]) -> Iterator[Shown | Missing]:
    """Yield the figures that recordings allow, kind by kind; and in place of others why they are missing."""
    letters = letters_of(recordings)
    for kind in KINDS:
        for letter, recording in zip(letters, recordings, strict=True):
            if kind.needs in recording.quantities and len(recording):
                yield _shown(kind, letter, [recording])
    first, *others = recordings
    for letter, other in zip(letters[1:], others, strict=True):
        for kind in (COMPARISON, DIFFERENCES):
            yield _shown(kind, f"A, {letter}", [first, other])


def _shown(kind: Kind, letters: str, recordings: list[Recording]) -> Shown | Missing:
    first, *others = recordings
    try:
        if kind is DIFFERENCES:
            drawn = draw_claims(first, against=others[0], **_LOOK)
        else:
            drawn = kind.draw(*recordings, **_LOOK)
    except AtmvizError as error:
        return Missing(f"{kind.name}{f' of {letters}' if letters else ''}", _without_folders(str(error), recordings))
    caption = kind.caption.replace(" B", f" {letters[-1]}") if others else kind.caption
    return Shown(kind, letters, drawn, f"{caption} {_size(kind, first, drawn)}")


def _size(kind: Kind, recording: Recording, drawn: DrawnFigure) -> str:
    """Return N as a sentence."""
    if kind in (COMPARISON, DIFFERENCES):
        rows = drawn.numbers["rows"]
        return f"N = {count(rows[0]['n_images'], 'image')}."
    images = f"N = {count(len(recording), 'image')}"
    if kind.name == "Histograms":
        return f"{images}."
    few = f", too few for intervals, which need {MIN_IMAGES}" if len(recording) < MIN_IMAGES else ""
    if kind.name == "Claims":
        return f"{images}{few}; the table below says how many tell something of each number."
    samples = len(recording) * sum(samples_of(site) for site in generating_sites(recording).values())
    return f"{images}{few}, {samples:,} samples of all layers along each axis."


def _without_folders(text: str, recordings: Sequence[Recording]) -> str:
    """Return a message with the names of recordings in place of their folders."""
    for recording in recordings:
        text = text.replace(str(recording.path), Path(recording.path).name)
    return text
