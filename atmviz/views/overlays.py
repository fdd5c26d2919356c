"""Overlays of images: load the network, observe, draw (Fig. 5)."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from PIL import Image
from torch import nn

from atmviz.checkpoints import origin_of
from atmviz.choices import DataChoice, ModelChoice
from atmviz.errors import DatasetError, SettingsError, count
from atmviz.events import QUIET, Events
from atmviz.figures.overlay import OverlayPanel, draw_overlay, overlay_panels
from atmviz.figures.saving import figure_name, weights_name
from atmviz.geometry import Preprocessing
from atmviz.observe import Site, find_sites, observe_image
from atmviz.recording.array_files import is_recording
from atmviz.recording.query import Query, parse_queries
from atmviz.recording.store import Recording
from atmviz.settings import split_settings, with_keywords
from atmviz.sources import Source, as_image, bundled_photos
from atmviz.views.drawn import DrawnFigure, describe_preprocessing
from atmviz.views.settings import OverlaySettings

_MANY = 100  # figures that a caller may not have meant to ask for
_FIT_TEXT = {"whole": "not cropped", "squash": "squashed, not cropped", "crop": "center crop"}
_ANCHOR_TEXT = {"cell": "cell", "rf": "receptive field"}
_MAX_COLUMNS = 6  # layers side by side
_SQUARE_COLUMNS = 4  # queries of one layer, in a square


@with_keywords(OverlaySettings, ModelChoice, without=("strict", "checkpoint"))
def overlay(
    image: "str | Path | np.ndarray | Image.Image | None" = None,
    network: nn.Module | str | Path | None = None,
    layers: Sequence[str] | str = ("3_last",),
    queries: Sequence[str] | str = ("center",),
    *,
    seed: int = 0,
    events: Events = QUIET,
    **settings: Any,
) -> Figure:
    """Draw which tokens queries sample, on an image (Fig. 5).

    Args:
        image: Path of a file, array [H, W, 3] of uint8 (RGB, upright) or PIL image; a bundled photograph without it.
        network: A network in evaluation mode, or what `load_model` takes; the demonstration model without it.
        layers: Layers, one panel each, by name or pattern: "3_18", "3_*", "3_last", "all".
        queries: Query tokens, one panel each: "center", "X,Y" in px of the image, fractions "0.3,0.6", "ROW:COL" in
            tokens, "grid:4x4", "random:8"; x and y also as a pair of numbers, (0.3, 0.6).
        seed: Seed of random queries.
        events: Receives which weights were loaded.
        settings: `anchor`, `size` and `fit` of `OverlaySettings`, and `model`, `weights` and `device` of `ModelChoice`
            for a network that is loaded.

    Returns:
        A matplotlib figure: one row of panels per query, one column per layer.

    Raises:
        DatasetError: the image cannot be read.
        LayerNotFoundError: the network has no such layer.
        QueryError: a query has none of these forms, or lies outside the image or the map.
        SettingsError: an argument of another type or outside its range, or two that exclude each other.
        CheckpointError: the network cannot be loaded, or has no sites.

    Source: Fig. 5.
    """
    chosen, model = split_settings({"layers": layers, "queries": queries, **settings}, OverlaySettings, ModelChoice)
    if image is None:
        image = bundled_photos().path(0).with_name("astronaut.jpg")
    _require_one_image(image)
    pixels = np.require(as_image(image), requirements=["C", "W"])  # of a read-only array torch would warn
    view = _View.of(model.load(network, events), chosen, chosen.preprocessing(None, "whole"), seed)
    return view.draw(pixels, str(image) if isinstance(image, str | Path) else "").figure


def _require_one_image(image: Any) -> None:
    """Raise an error with a remedy for what people pass in place of an image."""
    if isinstance(image, Recording) or (isinstance(image, str | Path) and is_recording(Path(image))):
        raise SettingsError("got a recording, expected an image: a histogram shows recordings")
    if isinstance(image, str | Path) and not Path(image).is_file():
        got = "the folder" if Path(image).is_dir() else "no image file"
        raise DatasetError(f"got {got} {image}, expected the path of one image, an array or a PIL image")


@with_keywords(OverlaySettings, DataChoice, ModelChoice)
def draw_overlays(
    source: "Source | str | Path | Sequence[str | Path] | None" = None,
    network: nn.Module | str | Path | None = None,
    *,
    events: Events = QUIET,
    **settings: Any,
) -> "Overlays":
    """Load network and images, and return their overlays, drawn one by one as they are iterated over.

    Args:
        source: Files, folders, globs, the name of a dataset, or an opened source; a bundled photograph without it and
            without `dataset`.
        network: A network in evaluation mode, or what `load_model` takes; the demonstration model without it.
        events: Receives messages, and how many images are done.
        settings: Fields of `OverlaySettings`, `DataChoice` and `ModelChoice`.

    Returns:
        The overlays, one per image.

    Raises:
        DatasetError, LayerNotFoundError, QueryError, SettingsError, CheckpointError: see `overlay`.
    """
    chosen, data, model = split_settings(settings, OverlaySettings, DataChoice, ModelChoice)
    preprocessing = chosen.preprocessing(data.dataset, "whole")
    if source is None and not data.dataset:
        source = bundled_photos().only("astronaut.jpg")
    images = data.open(source, preprocessing.size, events)
    return Overlays(images, _View.of(model.load(network, events), chosen, preprocessing, data.seed), events)


@dataclass(frozen=True)
class _View:
    """What is drawn of every image."""

    network: nn.Module
    settings: OverlaySettings
    preprocessing: Preprocessing
    sites: Sequence[Site]
    queries: Sequence[Query]

    @classmethod
    def of(cls, network: nn.Module, settings: OverlaySettings, preprocessing: Preprocessing, seed: int) -> "_View":
        queries = [query for text in settings.queries for query in parse_queries(text, seed)]
        return cls(network, settings, preprocessing, find_sites(network, settings.layers), queries)

    def about(self, image: np.ndarray, name: str) -> dict[str, Any]:
        """Return all that makes the overlay of an image what it is."""
        origin = origin_of(self.network)
        checkpoint = {key: getattr(origin, key) for key in ("sha256", "layout", "weights", "trained", "seed")}
        return {
            "figure": "overlay",
            **{"model": origin.model, "model_config": origin.config, "checkpoint": checkpoint},
            "preprocessing": asdict(self.preprocessing),
            "data": {"image": name, "pixels": sha256(image.tobytes()).hexdigest()},
            "layers": [site.name for site in self.sites],
            "queries": [str(query) for query in self.queries],
            "anchor": self.settings.anchor,
        }

    def draw(self, image: np.ndarray, name: str = "", subject: str = "", is_scene: bool = False) -> DrawnFigure:
        """Draw an image [H, W, 3], uint8, under its name in titles; a scene was drawn at the input size."""
        observed = observe_image(self.network, image, self.preprocessing, self.sites)
        panels = overlay_panels(observed, self.queries, self.settings.anchor)
        origin, (height, width) = origin_of(self.network), observed.placement.size
        weights, about = weights_name(origin.model, origin.trained, origin.sha256), self.about(image, name)
        layers, queries = len(self.sites), len(self.queries)
        seen = f"{100 * observed.placement.seen_share:.0f} % of the photograph is seen"
        fitted = "the scene is drawn at this size" if is_scene else f"{_FIT_TEXT[self.preprocessing.fit]}: {seen}"
        figure = draw_overlay(
            image,
            panels,
            columns=min(_MAX_COLUMNS, layers) if layers > 1 else min(_SQUARE_COLUMNS, math.ceil(queries**0.5)),
            title=f"{weights}{f' on {Path(name).name}' if name else ''}, input {height}×{width} px",
            note=f"one dot per sampled token (the nearest), at the center of its {_ANCHOR_TEXT[self.settings.anchor]}; "
            f"{fitted}",
            trained=origin.trained,
        )
        numbers = {
            "image": name,
            "input_size": list(observed.placement.size),
            "seen": round(observed.placement.seen_share, 4),
            "panels": [describe_panel(panel) for panel in panels],
        }
        file = figure_name(subject or Path(name).stem or "image", "overlay", weights, about["layers"], about)
        return DrawnFigure(figure, file, numbers, about)


@dataclass
class Overlays:
    """Overlays of several images; each is drawn when the iteration reaches it.

    Attributes:
        images: The images.
        view: What is drawn of each.
        events: Receives how many images are done, and at the end which were left out.
        skipped: Unreadable images so far, by name, with the reason.
    """

    images: Source
    view: _View
    events: Events = QUIET
    skipped: dict[str, str] = field(default_factory=dict)

    def __iter__(self) -> Iterator[DrawnFigure]:
        """Draw image after image.

        Raises:
            DatasetError: an image is unreadable and the setting `strict` is on, or no image can be read.
        """
        total = len(self.images)
        if total > _MANY:
            self.events.message(f"drawing {total:,} figures, one per image: set a limit for fewer")
        names = [self.images.name(index) for index in range(total)]
        for index, (name, subject) in enumerate(zip(names, _subjects(names), strict=True)):
            self.events.images(index, total)
            try:
                image = self.images.read(index)
            except DatasetError as error:
                if self.view.settings.strict or total == 1:
                    raise
                self.skipped[name] = str(error)
                continue
            yield self.view.draw(image, name, subject, is_scene=not self.images.root)
        self.events.images(total, total)
        if len(self.skipped) == total:
            first = next(iter(self.skipped.values()))
            raise DatasetError(f"none of {count(total, 'image')} could be read; the first: {first}")
        self.events.left_out(self.skipped)

    @property
    def numbers(self) -> dict[str, Any]:
        """What all overlays share, ready for JSON: network and preprocessing."""
        origin, preprocessing = origin_of(self.view.network), describe_preprocessing(self.view.preprocessing)
        return {"model": origin.model, "trained": origin.trained, "preprocessing": preprocessing}


def _subjects(names: Sequence[str]) -> list[str]:
    """Return the shortest texts that tell images apart: stems, folders and suffix joined, or whole names."""
    stems = [Path(name).stem for name in names]
    joined = [name.replace("/", "-").replace(".", "-") for name in names]
    return next((texts for texts in (stems, joined) if len(set(texts)) == len(names)), list(names))


def describe_panel(panel: OverlayPanel) -> dict[str, Any]:
    """Return the numbers of a panel, ready for JSON."""
    samples = panel.samples
    if "point" in samples.samples:
        sampled = samples.samples["point"]
        pairs = zip(sampled.positions.tolist(), sampled.counts.tolist(), strict=True)
        tokens: dict[str, Any] = {"points": [[*position, count] for position, count in pairs]}
    else:
        tokens = {
            "horizontal": samples.along("horizontal").tolist(),
            "vertical": samples.along("vertical").tolist(),
        }
    return {
        "layer": panel.site.name,
        "source": panel.site.source,
        "query": str(panel.query),
        "query_token": list(samples.query),
        "query_px": [round(value, 3) for value in panel.position_px(*samples.query)][::-1],
        "map_size": list(samples.grid),
        "channels": samples.channels,
        **tokens,
        "outside": dict(samples.outside),
    }
