"""Settings of the figures. Torch-free, without matplotlib: commands read their options from here."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from atmviz.choices import FitChoice
from atmviz.errors import SettingsError, describe
from atmviz.geometry import MIN_SIZE_PX, Anchor
from atmviz.layers import figure_patterns
from atmviz.paper import FIGURES, FigurePreset
from atmviz.recording.query import PATH, parse_queries, query_texts
from atmviz.settings import Settings, setting
from atmviz.statistics import ReachUnit, TokenSelection

NOT_RECORDED = ("layers", "query", "shard", "labels", "keep")
"""Fields of `RecordingSettings` that a recording for a histogram leaves as they are: it holds all layers."""
NOT_ASKED = ("query", "shard", "labels", "keep")
"""Fields of `RecordingSettings` that an answer decides."""

OVERLAY_FIGURE = 5
"""The figure of the paper that is an overlay; the others are histograms."""
View = Literal["samples", "density", "fusion"]
MOVING_FORMATS = (".mp4", ".gif")
_CLIPS = (".mp4", ".m4v", ".mov", ".mkv", ".webm", ".avi", ".mpg", ".mpeg")


def _overlay_figure(figure: int) -> int:
    """Return 5; raise SettingsError for another number."""
    if figure != OVERLAY_FIGURE:
        raise SettingsError(f"got figure {describe(figure)}, expected 5 (Figs. 3, 6 and 7 are histograms)")
    return figure


def _known_figure(figure: int) -> int:
    """Return the number of a figure of the paper that is a histogram; raise SettingsError for another."""
    if figure not in tuple(FIGURES) or figure == OVERLAY_FIGURE:
        raise SettingsError(f"got figure {describe(figure)}, expected 3, 6 or 7 (Fig. 5 is an overlay)")
    return figure


def is_clip(path: str | Path) -> bool:
    """Return whether a file is a clip by its name; an animated GIF counts only where frames are asked for."""
    return Path(path).suffix.lower() in (*_CLIPS, ".gif") and not Path(path).is_dir()


def is_moving(sources: Sequence[str | Path], out: str | Path, queries: Sequence[str]) -> bool:
    """Return whether a moving picture is asked for: by a clip, by a path of queries, or by the file to write."""
    has_clip = any(is_clip(path) and Path(path).suffix.lower() in _CLIPS for path in sources)
    has_path = any(text.strip().lower().startswith(PATH) for text in queries)
    return has_clip or has_path or (Path(out).suffix.lower() in MOVING_FORMATS and not Path(out).is_dir())


def moving_path(out: str | Path, name: str, formats: Sequence[str] | None) -> Path:
    """Return the file of a moving picture: `out`, or `name` in the folder `out`.

    Raises:
        SettingsError: the file has another suffix, or formats are given.
    """
    path = Path(out)
    if formats:
        raise SettingsError(f"got formats {', '.join(formats)} for a moving picture, expected a file .mp4 or .gif")
    if path.suffix.lower() in MOVING_FORMATS and not path.is_dir():
        return path
    if path.suffix.lower() in (*_CLIPS, ".png", ".pdf", ".svg", ".jpg", ".webp") and not path.is_dir():
        raise SettingsError(f"got out {path} for a moving picture, expected a folder, or a file .mp4 or .gif")
    return path / name


@dataclass(frozen=True)
class OverlaySettings(FitChoice):
    """What an overlay shows (Fig. 5); images are kept whole without another `fit`."""

    layers: tuple[str, ...] = setting(
        (),
        "Layers: 3_18, 2_1,3_7, 3_*, 3_last, all (that generate offsets); repeatable; by default 3_last.",
        "Figure",
        flags=("--layer",),
        read=figure_patterns,
    )
    queries: tuple[str, ...] = setting(
        ("center",),
        "center, X,Y in px, fractions 0.3,0.6, ROW:COL in tokens, grid:4x4, random:8; repeatable. A query that walks, "
        "as GIF or MP4: path:0.2,0.5;0.8,0.5.",
        "Figure",
        flags=("--query", "-q"),
        read=query_texts,
    )
    anchor: Anchor = setting(  # noqa: RUF009
        "cell", "Where a token is drawn: at the center of its cell, or of its receptive field (rf).", "Figure"
    )
    view: View = setting(  # noqa: RUF009
        "samples",
        "samples: what queries sample. density: how often each token is sampled, by all. fusion: weights of branches.",
        "Figure",
    )
    together: bool = setting(False, "All queries on one photograph, in a color each.", "Figure")
    montage: bool = setting(False, "All images in one figure, side by side.", "Figure")
    figure: int | None = setting(
        None,
        "5: dataset, size, layer and number of images of that figure of the paper, side by side.",
        "Figure",
        read=_overlay_figure,
    )
    strict: bool = setting(False, "Stop at the first unreadable image.", "Data")
    every: int = setting(1, "Show every N-th image, or frame of a clip.", "Data", 1)
    fps: float = setting(
        12.5, "Frames per second of images or of a walking query; a clip keeps its own.", "Data", 0.1, 60
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.view != "samples" and (self.together or self.queries != ("center",)):
            raise SettingsError(f"got queries and view {self.view}, which shows all tokens: leave one of the two out")

    def require_queries(self, images: Iterable[str | Path]) -> None:
        """Check queries against the sizes that image files have by their headers; folders and globs are not read.

        Raises:
            QueryError: a query lies outside an image, or outside what the network sees of it.
        """
        from atmviz.sources.decoding import upright_size  # which loads OpenCV

        fitted = self.with_preset().preprocessing(None, "whole")
        for path in images:
            if Path(path).is_file() and (size := upright_size(path)) and min(size) >= MIN_SIZE_PX:
                for query in (query for text in self.queries for query in parse_queries(text)):
                    query.point_px(fitted.place(*size))

    @property
    def preset(self) -> FigurePreset | None:
        """The figure of the paper that is asked for."""
        return None if self.figure is None else FIGURES[self.figure]

    def with_preset(self) -> "OverlaySettings":
        """Return the settings with those of the figure of the paper, where no others are set."""
        preset = self.preset
        if preset is None:
            return self
        size, layers = self.size or preset.size, self.layers or preset.layers
        return replace(self, size=size, layers=layers, fit=self.fit or "crop", montage=True)


@dataclass(frozen=True)
class HistogramSettings(Settings):
    """What a histogram shows (Figs. 3, 6, 7)."""

    layers: tuple[str, ...] = setting(
        (),
        "Layers: 3_18, 2_1,3_7, 3_*, 3_last, all (that generate offsets); repeatable; by default 2_1,3_1,3_last.",
        "Figure",
        flags=("--layer",),
        read=figure_patterns,
    )
    tokens: TokenSelection = setting(  # noqa: RUF009
        "center", "center: offsets of the center token of each image. all: of every token.", "Figure"
    )
    figure: int | None = setting(
        None,
        "3, 6 or 7: dataset, size, layers and number of images of that figure of the paper.",
        "Figure",
        read=_known_figure,
    )

    @property
    def preset(self) -> FigurePreset | None:
        """The figure of the paper that is asked for."""
        return None if self.figure is None else FIGURES[self.figure]

    @property
    def chosen_layers(self) -> tuple[str, ...]:
        """The layers that are asked for, else those of the figure of the paper; () for the default."""
        return self.layers or (self.preset.layers if self.preset else ())


@dataclass(frozen=True)
class AnswerSettings(Settings):
    """Which layers an answer is about."""

    layers: tuple[str, ...] = setting(
        (),
        "Layers: 3_18, 2_1,3_7, 3_*, 3_last, all (that generate offsets); repeatable; by default all.",
        "Answer",
        flags=("--layer",),
        read=figure_patterns,
    )


@dataclass(frozen=True)
class ClaimSettings(AnswerSettings):
    """Which layers claims are measured on, and whose objects."""

    labels: str | None = setting(
        None,
        "A folder of masks of the images' names; by default the objects of the dataset (shapes, ade20k, coco).",
        "Data",
        read=str,
    )


@dataclass(frozen=True)
class DepthSettings(AnswerSettings):
    """What reach against depth shows."""

    unit: ReachUnit = setting("tokens", "tokens, px, or percent of the map's axis.", "Answer")  # noqa: RUF009
