"""Moving overlays: the frames of a clip, or a query that walks over a photograph."""

import csv
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field, replace
from hashlib import sha256
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure
from torch import nn

from atmviz.choices import DataChoice, ModelChoice
from atmviz.errors import DatasetError, SettingsError, count
from atmviz.events import QUIET, Events
from atmviz.figures.moving import MOST_GIF_RATE, moving_file, pixels_of
from atmviz.figures.overlay import Steady
from atmviz.figures.panels import OverlayPanel
from atmviz.figures.saving import figure_name, moving_about, read_about, require_own, say_replaced, shows_else
from atmviz.figures.settings import FigureStyle
from atmviz.figures.style import Look
from atmviz.files import atomic_path, sha256_of_file
from atmviz.observe.image import ObservedImage
from atmviz.recording.query import PATH
from atmviz.settings import split_settings, with_keywords
from atmviz.sources import ImageFiles, Source, bundled_photos
from atmviz.sources.clips import Clip, open_clip
from atmviz.statistics.jitter import temporal_jitter
from atmviz.views.overlays import Overlays, OverlayView
from atmviz.views.settings import MOVING_FORMATS, OverlaySettings, is_clip, moving_path

_MOST_PX = 4096  # longer side of a frame that is made larger to keep the pixels of a clip
_COLUMNS = ("frame", "time_s", "layer", "source", "axis", "jitter")


@with_keywords(OverlaySettings, DataChoice, ModelChoice, FigureStyle, without=("share_y", "montage", "figure"))
def draw_moving(
    source: "Source | str | Path | Sequence[str | Path] | None" = None,
    network: nn.Module | str | Path | None = None,
    *,
    events: Events = QUIET,
    **settings: Any,
) -> "MovingOverlays":
    """Load network and frames, and return an overlay that moves; its frames are drawn as it is saved.

    Args:
        source: A clip, a `Clip`, or images that are frames of one size: files, folders, globs, the name of a dataset,
            an opened source. With a path of queries one photograph, by default a bundled one.
        network: A network in evaluation mode, or what `load_model` takes; the demonstration model without it.
        events: Receives messages, and how many frames are done.
        settings: Fields of `OverlaySettings`, `DataChoice`, `ModelChoice` and `FigureStyle`.

    Returns:
        The moving overlay, as the only one of several.

    Raises:
        DatasetError: a clip or an image cannot be read.
        LayerNotFoundError, QueryError, SettingsError, CheckpointError: see `overlay`.
    """
    chosen, data, model, style = split_settings(settings, OverlaySettings, DataChoice, ModelChoice, FigureStyle)
    if chosen.montage or chosen.figure:
        raise SettingsError("got a montage for a moving picture, expected one image a frame: leave it out")
    is_walk = any(text.strip().lower().startswith(PATH) for text in chosen.queries)
    if is_walk and len(chosen.queries) > 1:
        raise SettingsError(f"got {count(len(chosen.queries), 'query text')}, expected a path alone")
    paths = [source] if isinstance(source, str | Path) else source if isinstance(source, list | tuple) else ()
    if clips := [path for path in paths if is_clip(path)]:
        if len(paths) > 1 or is_walk:
            other = "a path of queries" if is_walk else count(len(paths), "file")
            raise SettingsError(f"got {clips[0]} and {other}, expected a clip alone, or a path on one photograph")
        if chosen.fps != type(chosen)().fps:
            events.message(f"got fps {chosen.fps:g} for {clips[0]}: a clip keeps its own rate")
        source = open_clip(clips[0])
    if isinstance(source, Clip) and source.note:
        events.message(source.note)
    if source is None and not data.dataset and is_walk:
        source = bundled_photos().only("astronaut.jpg")
    preprocessing = chosen.preprocessing(data.dataset, "whole")
    images = data.open(source, preprocessing.size, events)
    if is_walk and len(images) != 1:
        raise SettingsError(f"got a path of queries and {count(len(images), 'image')}, expected one photograph")
    view = OverlayView.of(model.load(network, events, data.seed), chosen, style, preprocessing, data.seed)
    return MovingOverlays(images, view, events, is_walk=is_walk)


@dataclass
class MovingOverlays(Overlays):
    """One overlay that moves.

    Attributes:
        is_walk: Whether the query moves over one image; else each image is a frame.
    """

    is_walk: bool = False

    def __iter__(self) -> Iterator[Any]:
        """Return the moving overlay, which is drawn as it is saved."""
        yield MovingOverlay(self)

    @property
    def rate(self) -> float:
        """Frames per second of the picture: so that a clip of which every N-th frame is shown lasts as long."""
        rate = self.images.rate if isinstance(self.images, Clip) else self.view.settings.fps
        return rate / (1 if self.is_walk else self.view.settings.every)

    @property
    def title(self) -> str:
        """Name of all frames, in titles."""
        if isinstance(self.images, Clip):
            return self.images.path.name
        return self.images.name(0) if len(self.images) == 1 else self.images.title

    @property
    def about(self) -> dict[str, Any]:
        """All that makes the picture what it is."""
        data = {"images": self.title, "sampling": dict(self.images.sampling), "sha256": self._sha256()}
        timing = {"every": self.view.settings.every, "frames_per_second": self.rate}
        return {**self.view.about(()), "data": [data], "moving": timing}

    def _sha256(self) -> str:
        """Return a fingerprint of the content of a clip, or of all images."""
        if isinstance(self.images, Clip):
            return sha256_of_file(self.images.path)
        content = sha256()
        for index in range(len(self.images)):
            if isinstance(self.images, ImageFiles):
                with suppress(DatasetError):  # which drawing reports
                    content.update(sha256(self.images.content(index)).digest())
            else:
                content.update(f"{self.images.name(index)} {self.images.fingerprint(index)}\0".encode())
        return content.hexdigest()

    def frames(self) -> Iterator[tuple[int, list[OverlayPanel], ObservedImage]]:
        """Return the panels of each frame with the number of its image, and what was observed of it.

        Raises:
            DatasetError: a frame is of another size than the first, or see `Overlays`.
        """
        if self.is_walk:
            image = self.images.read(0)
            observed, total = self.view.observe(image), len(self.view.queries)
            for number, query in enumerate(self.view.queries):
                self.events.images(number, total)
                yield number, replace(self.view, queries=[query]).panels_of(image, observed, self.title), observed
            self.events.images(total, total)
            return
        size: tuple[int, ...] = ()
        for index, name, _, image in self._read():
            size = size or image.shape
            if image.shape != size:
                got, expected = (f"{width}x{height}" for height, width, _ in (image.shape, size))
                raise DatasetError(f"frame {name} is {got} px, expected {expected} px as the first: leave it out")
            observed = self.view.observe(image)
            yield index, self.view.panels_of(image, observed, self.title), observed

    def figures(self) -> Iterator[tuple[int, Figure, list[OverlayPanel], ObservedImage]]:
        """Return `frames` with their figures, which are of one size and have axes in one place."""
        steady, is_scene = Steady(), not self.images.root
        for index, panels, observed in self.frames():
            yield index, self.view.figure([panels], is_scene=is_scene, steady=steady), panels, observed


@dataclass
class MovingOverlay:
    """A moving picture, drawn as it is saved.

    Attributes:
        overlays: Its frames.
        numbers: What it shows, ready for JSON; empty before it is saved.
    """

    overlays: MovingOverlays
    numbers: dict[str, Any] = field(default_factory=dict)

    def save(
        self,
        out: str | Path = ".",
        formats: Sequence[str] | None = None,
        *,
        command: str = "",
        events: Events = QUIET,
    ) -> list[Path]:
        """Write the picture, and beside it as CSV how much offsets change between frames; return the files.

        Args:
            out: A folder, or a file ending in .mp4 or .gif.
            formats: None: the name of the file says its format. In a folder it is MP4, of a walking query GIF.
            command: The command that drew it, for its metadata.
            events: Receives which figures of other settings were replaced.

        Raises:
            SettingsError: a file that is none of atmviz would be replaced, another format, or more frames per second
                than a GIF can show.
            AtmvizError: the file cannot be written.
        """
        shown, about = self.overlays, self.overlays.about
        subject = Path(shown.title).stem
        name = figure_name(subject, "overlay", shown.view.weights, about["layers"], about)
        file = moving_path(out, f"{name}.{'gif' if shown.is_walk else 'mp4'}", formats)
        if file.suffix.lower() == ".gif" and shown.rate > MOST_GIF_RATE:
            raise SettingsError(
                f"got {shown.rate:g} frames per second, expected at most {MOST_GIF_RATE:g} of a GIF: "
                f"show every {-(-shown.rate // MOST_GIF_RATE):.0f}. frame, or write an MP4"
            )
        earlier, table = require_own([file]), file.with_suffix(".csv")
        kin = [file.with_suffix(suffix) for suffix in MOVING_FORMATS]  # an MP4 and a GIF of a clip have one table
        if not shown.is_walk and table.exists() and not any(each.exists() and read_about(each) for each in kin):
            raise SettingsError(f"{table} exists and belongs to no figure of atmviz: choose another name")
        for each in (each for each in kin if table.exists() and not shown.is_walk and each != file and each.exists()):
            if (said := read_about(each)) and shows_else(said, about):
                raise SettingsError(f"{table} belongs to {each}, which shows something else: choose another name")
        with ExitStack() as stack:
            tables = () if shown.is_walk else (stack.enter_context(atomic_path(table)),)
            temporary = stack.enter_context(atomic_path(file))
            self._write(temporary, moving_about(about, command), tables)
        say_replaced(earlier, about, events)
        return [file, *([] if shown.is_walk else [table])]

    def _write(self, file: Path, about: bytes, tables: Sequence[Path]) -> None:
        """Draw all frames into a file, and write how much offsets change into the table, if there is one."""
        shown, view = self.overlays, self.overlays.view
        look, dpi, total, size = Look.of(view.style), 0.0, 0, (0, 0)
        jitter = _Jitter(shown)
        with ExitStack() as stack:
            opened = [stack.enter_context(path.open("w", encoding="utf-8", newline="")) for path in tables]
            writers = [csv.DictWriter(file, _COLUMNS, lineterminator="\n") for file in opened]
            for writer in writers:
                writer.writeheader()
            frames = stack.enter_context(moving_file(file, shown.rate, about))
            for index, figure, panels, observed in shown.figures():
                dpi = dpi or self._dpi(figure, panels, look, is_gif=file.suffix.lower() == ".gif")
                pixels = pixels_of(figure, look, dpi)
                figure.clear()  # whose parts refer to each other, and would be kept for a while
                frames.write(pixels)
                total += 1
                size = pixels.shape[1], pixels.shape[0]
                for writer in writers:
                    writer.writerows(jitter.rows(index, observed))
        self.numbers = {
            "image": shown.title,
            "input_size": list(panels[0].photo.placement.size),
            "frames": total,
            "frames_per_second": shown.rate,
            "size_px": list(size),
            "rows": jitter.means(),
        }

    def _dpi(self, figure: Figure, panels: Sequence[OverlayPanel], look: Look, is_gif: bool) -> float:
        """Return pixels per inch: those asked for; else, in an MP4, as many as show each pixel of a clip."""
        style, settings = self.overlays.view.style, self.overlays.view.settings
        if style.dpi or is_gif or settings.view == "fusion":
            return look.dpi
        width, height = figure.get_size_inches()
        kept = panels[0].photo.pixels.shape[1] / (width * figure.axes[0].get_position().width)
        return max(look.dpi, min(kept, _MOST_PX / max(width, height)))


class _Jitter:
    """Changes of offsets from frame to frame."""

    def __init__(self, overlays: MovingOverlays) -> None:
        self._sites = overlays.view.sites
        self._seconds = 1 / (overlays.rate * overlays.view.settings.every)
        self._before: ObservedImage | None = None
        self._sums: dict[tuple[str, str, str], list[float]] = {}

    def rows(self, index: int, observed: ObservedImage) -> Iterator[dict[str, Any]]:
        """Return the rows of a frame; none of the first."""
        before, self._before = self._before, observed
        for site in self._sites if before else ():
            change = temporal_jitter(before.offsets[site.name], observed.offsets[site.name])  # type: ignore[union-attr]
            for axis, jitter in change.items():
                total = self._sums.setdefault((site.name, site.source, axis), [0.0, 0.0])
                total[:] = total[0] + jitter, total[1] + 1
                at = round(index * self._seconds, 6)
                row = (index, at, site.name, site.source, axis, jitter)
                yield dict(zip(_COLUMNS, row, strict=True))

    def means(self) -> list[dict[str, Any]]:
        """Return the mean over the frames, by layer and axis."""
        return [
            {"layer": layer, "source": source, "axis": axis, "jitter": summed / number}
            for (layer, source, axis), (summed, number) in self._sums.items()
        ]
