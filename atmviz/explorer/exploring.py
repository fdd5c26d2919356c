"""A page in which the samples of every query are explored, made of recordings. Torch is loaded only to record."""

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from atmviz.choices import DataChoice, ModelChoice
from atmviz.errors import SettingsError, count, describe
from atmviz.events import QUIET, Events
from atmviz.explorer.data import Detail, details, packed, read_maps, require_same
from atmviz.explorer.header import describe_maps, header_of
from atmviz.explorer.orders import column_orders, image_orders
from atmviz.explorer.page import Explorer, assemble, refuse_pages
from atmviz.explorer.settings import MAX_BYTES, ExplorerSettings
from atmviz.explorer.still import still_of
from atmviz.observe.site import select_sites, sources_of
from atmviz.recording.array_files import is_recording
from atmviz.recording.settings import RecordingSettings
from atmviz.recording.store import Recording
from atmviz.settings import split_settings, with_keywords
from atmviz.statistics.histogram import choose_layers
from atmviz.views.recordings import Images, RecordedSource

if TYPE_CHECKING:
    from torch import nn

_SETTINGS = (ExplorerSettings, DataChoice, RecordingSettings, ModelChoice)


@with_keywords(*_SETTINGS, without=("query", "shard", "labels", "keep", "checkpoint"))
def explore(
    source: Recording | Images | None = None,
    network: "nn.Module | str | Path | None" = None,
    other: "Recording | nn.Module | str | Path | None" = None,
    *,
    command: str = "",
    events: Events = QUIET,
    **settings: Any,
) -> Explorer:
    """Make a web page in which the tokens that every query samples can be explored, without a network.

    Args:
        source: An opened recording that keeps maps, or its folder; or images: files, folders, globs, the name of a
            dataset, or an opened source. The bundled photographs without it.
        network: A network in evaluation mode, or what `load_model` takes; the demonstration model without it.
        other: What to compare with: a recording of the same images by other weights; or, if `source` is images, another
            network or what `load_model` takes.
        command: The command that makes the page, which the page then says; not with `share_safe`.
        events: Receives messages, and how many images are recorded.
        settings: Fields of `ExplorerSettings`, e.g. `max_size="10MB"`, of `DataChoice`, of `RecordingSettings`, e.g.
            `size`, and of `ModelChoice`.

    Returns:
        The page, which `save` writes into a file and notebooks show.

    Raises:
        SettingsError: a recording without maps, two that do not belong together, settings that exclude each other, or
            a page that cannot be as small as asked.
        DatasetError: no readable image.
        LayerNotFoundError: the recording or the network has no such layer.
        CheckpointError: the network cannot be loaded, or has no sites.
        RecordingFormatError: a recording is damaged.
    """
    chosen, data, running, model = split_settings(settings, *_SETTINGS)
    refuse_pages([*(source if isinstance(source, list | tuple) else [source]), other])
    running = replace(running, keep=("maps",), layers=())
    first = RecordedSource.of(source, network, data, running, model)
    second = None if other is None else _second(first, other)
    if (opened := first.opened()) is not None and opened.attrs["image_root"] and not chosen.share_safe:
        events.message(f"photographs are read from {opened.attrs['image_root']}, which the recording names")
    with ExitStack() as stack:
        recordings = [stack.enter_context(each.recording(events)) for each in (first, second) if each is not None]
        return make_page(recordings, chosen, events, command)


def _second(first: RecordedSource, other: "Recording | nn.Module | str | Path") -> RecordedSource:
    if isinstance(other, Recording) or (isinstance(other, str | Path) and is_recording(Path(other))):
        return RecordedSource(other, None, DataChoice(), RecordingSettings(), ModelChoice())
    if first.opened() is not None:
        raise SettingsError(
            f"got a recording and {describe(other)} to compare with, expected another recording: repeat the first one "
            "with these weights"
        )
    return RecordedSource.of(first.source, other, first.data, first.running, replace(first.model, model=None))


def make_page(
    recordings: Sequence[Recording],
    settings: ExplorerSettings = ExplorerSettings(),  # noqa: B008
    events: Events = QUIET,
    command: str = "",
) -> Explorer:
    """Make a page of one recording, or of two that are compared; see `explore`."""
    first = recordings[0]
    for recording in recordings:
        _require_maps(recording)
    if len({recording.path.resolve() for recording in recordings}) < len(recordings):
        raise SettingsError(f"got {first.path} twice, expected two recordings: repeat it with other weights")
    names = (first.images if len(recordings) == 1 else require_same(*recordings))[: settings.max_images]
    if len(names) < len(first):
        events.message(f"the page shows {len(names)} of {count(len(first), 'image')}")
    sites = select_sites(settings.layers, first.sites) if settings.layers else first.sites
    fewer = sites if settings.layers else select_sites(choose_layers(first), first.sites)
    maps = [read_maps(recording, sites, names) for recording in recordings]
    header = header_of(recordings, names, settings.share_safe, events)
    header["orders"] = {name: column_orders(first, maps[0][name], site) for name, site in sources_of(sites).items()}
    for index, image in enumerate(header["images"]):
        image["orders"] = {name: image_orders(maps[0][name][index]) for name in maps[0]}
    header["command"] = "" if settings.share_safe else command
    limit = int(settings.max_size)
    for detail in details(sites, fewer):
        header |= describe_maps(recordings, maps, detail) | {"about": _about(header, detail)}
        page = _page(header, [packed(each, detail, limit) for each in maps], still_of(header, first, maps[0]))
        if page and len(page.encode()) <= limit:
            break
    else:
        raise SettingsError(
            f"got a largest size of {limit:,} bytes, which the page exceeds in its least detail: show fewer images or "
            f"layers, or allow more, up to {MAX_BYTES:,}"
        )
    if detail.reduced:
        less = "; ".join(detail.reduced.values())
        events.message(f"the page holds less, to stay below {limit:,} bytes: {less}")
    return Explorer(page, {**header["about"], "bytes": len(page.encode())})


def _about(header: Mapping[str, Any], detail: Detail) -> dict[str, Any]:
    """Return what a page holds, and each step that was taken to make it small, for people who ask for it."""
    manifest = {"unit": f"1/{detail.unit} token", "steps": ["x-delta coding", *detail.reduced]}
    return {
        "models": [model["title"] for model in header["models"]],
        "sha256": [model["sha256"] for model in header["models"]],
        "dataset": header["dataset"],
        "images": len(header["images"]),
        "layers": [site.name for site in detail.sites],
        "left_out": list(detail.reduced.values()),
        "manifest": manifest,
    }


def _require_maps(recording: Recording) -> None:
    if "map" not in recording.quantities:
        raise SettingsError(f"{recording.path} keeps no maps: record its images again, and keep maps")
    if not len(recording):
        raise SettingsError(f"{recording.path} holds no image, expected one or more: record again")


def _page(header: dict[str, Any], offsets: list[list[str] | None], still: str) -> str:
    """Return the page; "" where offsets are missing because they do not fit."""
    if any(texts is None for texts in offsets):
        return ""
    return assemble(header, offsets, still)  # type: ignore[arg-type]
