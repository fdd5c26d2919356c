"""Overlays of images: load the network, observe, draw (Fig. 5)."""

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
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
from atmviz.figures.overlay import Steady, draw_overlay
from atmviz.figures.panels import OverlayPanel, Photo, is_rounded
from atmviz.figures.saving import figure_name, weights_name
from atmviz.figures.settings import FigureStyle
from atmviz.figures.style import MAX_PANELS
from atmviz.geometry import Preprocessing
from atmviz.observe import Site, find_sites, observe_image
from atmviz.observe.image import ObservedImage
from atmviz.recording.array_files import is_recording
from atmviz.recording.query import Query, parse_queries
from atmviz.recording.store import Recording
from atmviz.settings import split_settings, with_keywords
from atmviz.sources import DATASETS, Source, as_image, bundled_photos
from atmviz.statistics.fusion import BranchWeights
from atmviz.views.drawn import DrawnFigure, describe_preprocessing, describe_style
from atmviz.views.overlay_numbers import describe_image, tabulate_panels
from atmviz.views.panels import density_panels, fusion_panels, photo_of, sample_panels
from atmviz.views.settings import OverlaySettings

_MANY = 100  # figures that a caller may not have meant to ask for
_FIT_TEXT = {"whole": "not cropped", "squash": "squashed, not cropped", "crop": "center crop"}
_ANCHOR_TEXT = {"cell": "cell", "rf": "receptive field"}
DEFAULT_LAYERS = ("3_last",)


Picture = str | Path | np.ndarray | Image.Image


@with_keywords(OverlaySettings, ModelChoice, FigureStyle, without=("strict", "montage", "checkpoint", "share_y"))
def overlay(
    image: Picture | Sequence[Picture] | None = None,
    network: nn.Module | str | Path | None = None,
    layers: Sequence[str] | str = (),
    queries: Sequence[str] | str = ("center",),
    *,
    seed: int = 0,
    events: Events = QUIET,
    **settings: Any,
) -> Figure:
    """Draw which tokens queries sample, on an image (Fig. 5).

    Args:
        image: Path of a file, array [H, W, 3] of uint8 (RGB, upright) or PIL image; several as a list, side by side. A
            bundled photograph without it.
        network: A network in evaluation mode, or what `load_model` takes; the demonstration model without it.
        layers: Layers, one panel each, by name or pattern: "3_18", "3_*", "3_last", "all"; by default 3_last.
        queries: Query tokens, one panel each: "center", "X,Y" in px of the image, fractions "0.3,0.6", "ROW:COL" in
            tokens, "grid:4x4", "random:8"; x and y also as a pair of numbers, (0.3, 0.6).
        seed: Seed of random queries and of random weights.
        events: Receives which weights were loaded.
        settings: `view`, `together`, `anchor`, `size`, `fit` and `figure` (5 sets size, fit and layer as in the paper)
            of `OverlaySettings`; `model`, `weights` and `device` of `ModelChoice` for a network that is loaded; fields
            of `FigureStyle`, e.g. `width="column"`.

    Returns:
        A matplotlib figure: one row of panels per query, one column per layer; of several images, one column per image.

    Raises:
        DatasetError: the image cannot be read.
        LayerNotFoundError: the network has no such layer.
        QueryError: a query has none of these forms, or lies outside the image or the map.
        SettingsError: an argument of another type or outside its range, or two that exclude each other.
        CheckpointError: the network cannot be loaded, or has no sites.

    Source: Fig. 5.
    """
    if image is None:
        image = bundled_photos().path(0).with_name("astronaut.jpg")
    images: list[Any] = list(image) if isinstance(image, list | tuple) else [image]
    if not images:
        raise DatasetError("got an empty list of images, expected one or more")
    chosen, model, style = split_settings(
        {"layers": layers, "queries": queries, "montage": len(images) > 1, **settings},
        OverlaySettings,
        ModelChoice,
        FigureStyle,
    )
    chosen = chosen.with_preset()
    for picture in images:
        _require_one_image(picture)
    view = OverlayView.of(model.load(network, events, seed), chosen, style, chosen.preprocessing(None, "whole"), seed)
    panels = []
    for number, picture in enumerate(images, 1):
        pixels = np.require(as_image(picture), requirements=["C", "W"])  # of a read-only array torch would warn
        name = str(picture) if isinstance(picture, str | Path) else f"image {number}" * (len(images) > 1)
        panels.append(view.panels(pixels, name))
    return view.figure(panels)


def _require_one_image(image: Any) -> None:
    """Raise an error with a remedy for what people pass in place of an image."""
    if isinstance(image, Recording) or (isinstance(image, str | Path) and is_recording(Path(image))):
        raise SettingsError("got a recording, expected an image: a histogram shows recordings")
    if isinstance(image, str | Path) and not Path(image).is_file():
        got = "the folder" if Path(image).is_dir() else "no image file"
        raise DatasetError(f"got {got} {image}, expected the path of one image, an array or a PIL image")


@with_keywords(OverlaySettings, DataChoice, ModelChoice, FigureStyle, without=("share_y",))
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
        settings: Fields of `OverlaySettings`, `DataChoice`, `ModelChoice` and `FigureStyle`.

    Returns:
        The overlays, one per image.

    Raises:
        DatasetError, LayerNotFoundError, QueryError, SettingsError, CheckpointError: see `overlay`.
    """
    chosen, data, model, style = split_settings(settings, OverlaySettings, DataChoice, ModelChoice, FigureStyle)
    if preset := chosen.preset:  # the caller's settings override the preset
        dataset: Any = data.dataset or (None if source else preset.dataset)
        data = replace(data, dataset=dataset, limit=data.limit or (None if source else preset.limit))
        chosen = chosen.with_preset()
    preprocessing = chosen.preprocessing(data.dataset, "whole")
    if source is None and not data.dataset:
        photos = bundled_photos()
        source = photos if chosen.montage else photos.only("astronaut.jpg")
    images = data.open(source, preprocessing.size, events)
    return Overlays(
        images, OverlayView.of(model.load(network, events, data.seed), chosen, style, preprocessing, data.seed), events
    )


@dataclass(frozen=True)
class OverlayView:
    """What is drawn of every image."""

    network: nn.Module
    settings: OverlaySettings
    style: FigureStyle
    preprocessing: Preprocessing
    sites: Sequence[Site]
    queries: Sequence[Query]

    @classmethod
    def of(
        cls,
        network: nn.Module,
        settings: OverlaySettings,
        style: FigureStyle,
        preprocessing: Preprocessing,
        seed: int,
    ) -> "OverlayView":
        """Parse queries and find layers; `seed` is that of random queries."""
        queries = [query for text in settings.queries for query in parse_queries(text, seed)]
        sites = find_sites(network, settings.layers or DEFAULT_LAYERS)
        return cls(network, settings, style, preprocessing, sites, queries)

    @property
    def weights(self) -> str:
        """Name of the network and its weights, in titles and file names."""
        origin = origin_of(self.network)
        return weights_name(origin.model, origin.trained, origin.sha256)

    def about(self, photos: Sequence[Photo]) -> dict[str, Any]:
        """Return all that makes the overlay of photographs what it is."""
        origin = origin_of(self.network)
        return {
            "figure": "overlay",
            "model": origin.model,
            "model_config": origin.config,
            "checkpoint": origin.identity,
            "preprocessing": asdict(self.preprocessing),
            "data": [{"image": p.title, "pixels": sha256(p.pixels.tobytes()).hexdigest()} for p in photos],
            "layers": [site.name for site in self.sites],
            "queries": [str(query) for query in self.queries],
            **{name: getattr(self.settings, name) for name in ("view", "together", "montage", "anchor")},
            "style": describe_style(self.style),
        }

    def panels(self, image: np.ndarray, name: str = "") -> list[OverlayPanel]:
        """Run an image [H, W, 3], uint8, and return its panels, under its name in titles."""
        return self.panels_of(image, self.observe(image), name)

    def observe(self, image: np.ndarray) -> ObservedImage:
        """Run an image [H, W, 3], uint8."""
        return observe_image(self.network, image, self.preprocessing, self.sites)

    def panels_of(self, image: np.ndarray, observed: ObservedImage, name: str) -> list[OverlayPanel]:
        """Return the panels of an image that was observed; see `panels`."""
        photo = photo_of(image, observed, name, self.settings.montage)
        anchor, axis = self.settings.anchor, self.style.axis
        if self.settings.view == "density":
            return density_panels(photo, observed, anchor=anchor, axis=axis)
        if self.settings.view == "fusion":
            return fusion_panels(photo, observed, anchor=anchor)
        together = self.settings.together
        return sample_panels(photo, observed, self.queries, anchor=anchor, axis=axis, together=together)

    def figure(
        self,
        images: Sequence[Sequence[OverlayPanel]],
        data: str = "",
        is_scene: bool = False,
        steady: Steady | None = None,
    ) -> Figure:
        """Return the figure of one image's panels; of several, a column for each image.

        Args:
            images: Panels of each image.
            data: Name of the dataset that several images are from.
            is_scene: Whether the images were drawn at the input size.
            steady: The layout that frames share.
        """
        panels = [panel for same in zip(*images, strict=True) for panel in same]
        row = len(images)
        if row == 1:
            data = panels[0].photo.title
            per_layer = len(panels) // len(self.sites)
            row = per_layer if self.settings.view != "samples" and per_layer > 1 else len(self.sites)
        sizes = {panel.photo.placement.size for panel in panels}
        size = "".join(f", input {height}×{width} px" for height, width in sizes if len(sizes) == 1)
        title = f"{self.weights}{f' on {data}' if data else ''}{size}"
        note, trained = self._note(panels, is_scene), origin_of(self.network).trained
        return draw_overlay(panels, row=row, title=title, note=note, trained=trained, style=self.style, steady=steady)

    def draw(
        self, images: Sequence[Sequence[OverlayPanel]], subject: str, data: str = "", is_scene: bool = False
    ) -> DrawnFigure:
        """Return the figure with its numbers; its file is named after `subject`. See `figure`."""
        figure = self.figure(images, data, is_scene)
        described = [describe_image(panels) for panels in images]
        table = tabulate_panels([panel for panels in images for panel in panels], with_images=len(images) > 1)
        numbers = described[0] if len(images) == 1 else {"montage": described}
        about = self.about([panels[0].photo for panels in images])
        name = figure_name(subject, "overlay", self.weights, about["layers"], about)
        return DrawnFigure(figure, name, numbers, about, table, self.style)

    def _note(self, panels: Sequence[OverlayPanel], is_scene: bool) -> str:
        shares = [panel.photo.placement.seen_share for panel in panels]
        least, most = (f"{100 * pick(shares):.0f} %" for pick in (min, max))
        which = "the photograph" if all(panel.photo is panels[0].photo for panel in panels) else "each photograph"
        seen = f"{least}{'' if least == most else f' to {most}'} of {which} is seen"
        fitted = "the scene is drawn at this size" if is_scene else f"{_FIT_TEXT[self.preprocessing.fit]}: {seen}"
        if self.settings.view == "density":
            about = "samples nearest to each token, over the queries of all tokens"
        elif self.settings.view == "fusion":
            per_image = any(isinstance(panel.shown, BranchWeights) for panel in panels)
            about = "mean over the channels" + "; lines: 10th to 90th percentile of the channels" * per_image
        else:
            mark = "mark" if self.settings.together else "circle"
            anchor = _ANCHOR_TEXT[self.settings.anchor]
            about = f"one {mark} per sampled token (the nearest), at the center of its {anchor}"
            if is_rounded(panels):
                about += "; the cross is the exact query: each layer rounds it to a token"
        return f"{about}; {fitted}"


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
    view: OverlayView
    events: Events = QUIET
    skipped: dict[str, str] = field(default_factory=dict)

    def __iter__(self) -> Iterator[DrawnFigure]:
        """Draw image after image, or all on one figure.

        Raises:
            DatasetError: an image is unreadable and the setting `strict` is on, or no image can be read.
            SettingsError: there are more panels than a figure can show.
        """
        is_scene, montage, subjects = not self.images.root, [], []
        total, is_montage = -(-len(self.images) // self.view.settings.every), self.view.settings.montage
        if is_montage and total > MAX_PANELS:
            raise SettingsError(f"got {total:,} images for one figure, expected at most {MAX_PANELS}: set a limit")
        if total > _MANY and not is_montage:
            self.events.message(f"drawing {total:,} figures, one per image: set a limit for fewer")
        for _, name, subject, image in self._read():
            panels = self.view.panels(image, name)
            if is_montage:
                montage.append(panels)
                subjects.append(subject)
            else:
                yield self.view.draw([panels], subject, is_scene=is_scene)
        if montage:
            data = self.images.title if self.images.title in DATASETS else ""
            yield self.view.draw(montage, data or "-".join(subjects), data, is_scene)

    def _read(self) -> Iterator[tuple[int, str, str, np.ndarray]]:
        """Return the number of each image that is shown, its name, a text for file names, and its pixels."""
        shown = range(0, len(self.images), self.view.settings.every)
        names, total = [self.images.name(index) for index in shown], len(shown)
        for done, (index, name, subject) in enumerate(zip(shown, names, _subjects(names), strict=True)):
            self.events.images(done, total)
            try:
                image = self.images.read(index)
            except DatasetError as error:
                if self.view.settings.strict or total == 1:
                    raise
                self.skipped[name] = str(error)
                continue
            yield index, name, subject, image
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
