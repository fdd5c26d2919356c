"""What a page says besides offsets: models, images, layers and commands, ready for JSON. Torch-free."""

import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from atmviz.errors import count, printable, shorten
from atmviz.events import Events
from atmviz.explorer.data import RECORDED_UNIT, Detail
from atmviz.explorer.orders import keeps_parts
from atmviz.explorer.palettes import PALETTES
from atmviz.explorer.photos import photos_of
from atmviz.figures.saving import weights_name
from atmviz.files import SOFTWARE
from atmviz.geometry import Placement
from atmviz.observe.site import sources_of
from atmviz.recording.sites import RecordedSite
from atmviz.recording.store import Recording
from atmviz.sources import DATASETS
from atmviz.statistics.adaptivity import PARTS
from atmviz.statistics.bins import offset_counts, share_interval

Maps = Mapping[str, np.ndarray]
_SHOWN_SHARE = 0.995  # of all samples: where the histogram ends
_SHOWN_PERCENTILE = 99  # of |offset|: where the colors of the matrix end


def header_of(
    recordings: Sequence[Recording], names: Sequence[str], share_safe: bool, events: Events
) -> dict[str, Any]:
    """Return what a page says of models and images.

    Args:
        recordings: Of each model.
        names: Names of the images.
        share_safe: Whether to leave out photographs, outlines, names and paths.
        events: Receives why photographs are missing.
    """
    first = recordings[0]
    dataset, (height, width) = first.attrs["dataset"], first.attrs["input_size"]
    dataset = printable(dataset) if dataset in DATASETS or not share_safe else "the recording"
    files = [""] * len(recordings)
    if not share_safe and len({(each.model, each.trained is False) for each in recordings}) < len(recordings):
        files = file_names([each.attrs.get("checkpoint_path") for each in recordings])
    return {
        "software": SOFTWARE,
        "palettes": PALETTES,
        "parts": PARTS,
        "of_parts": len(first) if keeps_parts(first) else len(names) if len(names) > 1 else 0,
        "dataset": dataset,
        "size": [height, width],
        "of": len(first),
        "said": f"{count(len(first), 'image')} of {shorten(dataset, 60)}; {SOFTWARE}",
        "lacks": "it does not draw the region, block, column, path, difference or contribution",
        "placeholders": "put in IMAGE and CHECKPOINT, which this page leaves out to be shared" * share_safe,
        "models": [_model(each, names, share_safe, file) for each, file in zip(recordings, files, strict=True)],
        "images": _images(first, names, share_safe, events),
    }


def file_names(paths: Sequence[str | None]) -> list[str]:
    """Return the names of checkpoint files, with their folders where they are named alike; "" for weights in no file.

    >>> file_names(["runs/first/best.safetensors", "runs/second/best.safetensors"])
    ['first/best', 'second/best']
    """
    parts = [Path(path).with_suffix("").parts if path else () for path in paths]
    length = 1 if len({each[-1:] for each in parts}) == len(parts) else 2
    return [printable(shorten("/".join(each[-length:]), 40)) for each in parts]


def _model(recording: Recording, names: Sequence[str], share_safe: bool, file: str) -> dict[str, Any]:
    checkpoint = recording.attrs["checkpoint"]
    path, words = recording.attrs.get("checkpoint_path"), []
    if path:
        words = ["-c", "CHECKPOINT" if share_safe else path]
    elif checkpoint.get("layout") == "random":
        words = ["-c", recording.model, "--seed", str(checkpoint["seed"])]
    title = weights_name(recording.model, recording.trained, checkpoint["sha256"])
    index_of = {name: index for index, name in enumerate(recording.images)}
    indices = [index_of[name] for name in names]
    name = f"{file} ({title})" if file else f"{title}{' (untrained)' * (recording.trained is False)}"
    return {
        "title": title,
        "name": name,
        "said": f"{name}, weights {checkpoint['sha256'][:12]}",
        "sha256": checkpoint["sha256"],
        "trained": recording.trained,
        "options": shlex.join(words),
        "why": "" if words else f"no file holds the weights of {title}",
        "fusion": {site.name: _fusion(recording, site, indices) for site in recording.sites},
    }


def _fusion(recording: Recording, site: RecordedSite, images: Sequence[int]) -> list[list[float]]:
    """Return the mean fusion weight of horizontal and vertical samples, or of 2-D points, by image; [] if unknown."""
    branches = ("joint",) if site.kind == "point" else ("width", "height")
    if not set(branches) <= set(site.branches) or "fusion" not in recording.quantities:
        return []
    weights = recording.read("fusion", site.name)[images]
    return weights[:, [site.branches.index(branch) for branch in branches]].round(4).tolist()


def _images(recording: Recording, names: Sequence[str], share_safe: bool, events: Events) -> list[dict[str, Any]]:
    height, width = recording.attrs["input_size"]
    nothing: dict[str, Any] = {"photo": None, "outlines": []}
    photos = [dict(nothing) for _ in names] if share_safe else photos_of(recording, names, events)
    images = []
    for number, (name, photo) in enumerate(zip(names, photos, strict=True), 1):
        placement = Placement((height, width), (height, width), (0, 0), (height, width))
        if photo["photo"]:
            placement = recording.preprocessing.place(*photo["image"])
        shown = f"image {number}" if share_safe else printable(name)
        command = shlex.join(_overlay_words(recording, name, share_safe))
        high, wide = placement.image
        box = {"x": -0.5, "y": -0.5, "width": wide, "height": high}
        why = "" if command else "the image was drawn, so no file holds it"
        images.append(
            {
                **photo,
                "name": shown,
                "title": shorten(shown, 60),
                "command": command,
                "why": why,
                "box": box,
                **vars(placement),
            }
        )
    return images


def _overlay_words(recording: Recording, name: str, share_safe: bool) -> list[str]:
    """Return the command that draws an image; nothing where no file holds it."""
    height, width = recording.attrs["input_size"]
    if not recording.attrs["image_root"]:
        return []
    path = "IMAGE" if share_safe else str(Path(recording.attrs["image_root"], name))
    fit = ["--size", f"{height}x{width}", "--fit", recording.preprocessing.fit]
    return ["atmviz", "overlay", path, *fit]


def describe_maps(recordings: Sequence[Recording], maps: Sequence[Maps], detail: Detail) -> dict[str, Any]:
    """Return what a page says of layers and their maps.

    Args:
        recordings: Of each model.
        maps: Offsets of each model, see `data.read_maps`.
        detail: How much of them the page holds.
    """
    sources, scales = {}, []
    for name, site in sources_of(detail.sites).items():
        sources[name] = {
            "offsets": site.num_offsets,
            "stored": [-(-size // detail.step(site)) for size in site.grid],
            "step": detail.step(site),
            "counts": [[side.tolist() for side in recording.counts(site.name)] for recording in recordings],
            "reach": [_reach(side) for side in recordings[0].counts(site.name)],
            "interval": [_interval(*pair, site) for pair in zip(recordings, maps, strict=True)],
        }
        far = float(np.percentile(np.abs(maps[0][name].astype(np.float32)), _SHOWN_PERCENTILE)) / RECORDED_UNIT
        scales.append([far, far * max(site.stride_px), 100 * far / min(site.grid)])
    keys = ("name", "source", "kind", "channels", "grid")
    sites = [
        {
            **{key: getattr(site, key) for key in keys},
            "label": site.name if site.is_source else f"{site.name} (offsets of {site.source})",
            "share": site.channels_per_offset,
            "stride": site.stride_px,
            "factors": {"tokens": [1, 1], "px": site.stride_px[::-1], "%": [100 / size for size in site.grid[::-1]]},
        }
        for site in detail.sites
    ]
    scale = [round(max(column), 4) or 1 for column in zip(*scales, strict=True)]
    about = {"start": _start(detail, recordings[0].attrs["input_size"]), "unit": detail.unit, "sites": sites}
    about |= {"sources": sources, "reduced": list(detail.reduced.values())}
    return {**about, "scale": dict(zip(("tokens", "px", "%"), scale, strict=True))}


def _start(detail: Detail, size: tuple[int, int]) -> dict[str, Any]:
    """Return the view that a page begins with: the state of its script."""
    layers = [site.name for site in detail.sites]
    layer = max((k for k, name in enumerate(layers) if name.startswith("3_")), default=len(layers) - 1)
    nothing = dict.fromkeys(("column", "region", "block", "brush"))
    words = {"axis": "hv", "unit": "tokens", "order": "index", "weight": "count", "compare": ""}
    place = {"image": 0, "model": 0, "layer": layer, "y": size[0] / 2, "x": size[1] / 2}
    return {**place, **words, **nothing, "palette": next(iter(PALETTES)), "split": 50, "pins": [], "path": False}


def _reach(counts: np.ndarray) -> int:
    """Return how many bins to each side of the middle hold nearly all samples, 3 or more."""
    middle = len(counts) // 2
    by_distance = counts[middle:] + counts[middle::-1]
    by_distance[0] = counts[middle]
    return max(3, int(np.searchsorted(np.cumsum(by_distance), _SHOWN_SHARE * counts.sum())))


def _interval(recording: Recording, maps: Maps, site: RecordedSite) -> list[list[list[float]]]:
    """Return the interval of the share of samples at each offset, by axis; empty where the page lacks images of it."""
    offsets = maps[site.source]
    if len(offsets) < len(recording):
        return [[], []]
    axes = zip(np.moveaxis(offsets, 3, 0), site.grid[::-1], strict=True)
    return [share_interval(offset_counts(o / RECORDED_UNIT, size)).round(5).tolist() for o, size in axes]
