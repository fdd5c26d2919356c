"""What a page shows where scripts are off: the samples of one query on one photograph, and a table. Torch-free."""

import html
from collections.abc import Mapping
from typing import Any

import numpy as np

from atmviz.explorer.data import RECORDED_UNIT
from atmviz.explorer.palettes import PALETTES
from atmviz.geometry import Placement, token_center_px
from atmviz.observe.site import AXES
from atmviz.recording.sites import RecordedSite
from atmviz.recording.store import Recording
from atmviz.statistics.sampling import sampling_map

_SHAPES = {
    "horizontal": 'circle cx="{x:.1f}" cy="{y:.1f}" r="{r:.1f}"',
    "vertical": 'path d="M{x:.1f} {y:.1f}m0 -{r:.1f}l{r:.1f} {r:.1f}l-{r:.1f} {r:.1f}l-{r:.1f} -{r:.1f}z"',
    "point": 'path d="M{x:.1f} {y:.1f}m-{r:.1f} -{r:.1f}h{r:.1f}h{r:.1f}v{r:.1f}v{r:.1f}h-{r:.1f}h-{r:.1f}z"',
}
"""Marks of a sample, as the script draws them."""


def still_of(header: Mapping[str, Any], recording: Recording, maps: Mapping[str, np.ndarray]) -> str:
    """Return markup: the first image with the samples of the recorded query in the layer of the start, and a table.

    The table says how far layers look.

    Args:
        header: What the page says of images and layers.
        recording: The recording of the first model.
        maps: Its offsets, see `data.read_maps`.
    """
    names = [site["name"] for site in header["sites"]]
    rows = []
    for name in names:
        cells = "".join(f"<td>{mean:.2f}</td>" for mean in recording.mean_abs_offset(name).mean(0))
        rows.append(f"<tr><th scope=row>{name}</th>{cells}</tr>")
    heads = "".join(f"<th scope=col>mean |offset|, {axis} (tokens)</th>" for axis in AXES)
    site = recording.site(names[header["start"]["layer"]])
    picture = _picture(header["images"][0], site, maps[site.source][0][site.query] / RECORDED_UNIT)
    return f"{picture}<table><tr><th scope=col>layer</th>{heads}</tr>{''.join(rows)}</table>"


def _picture(image: Mapping[str, Any], site: RecordedSite, offsets: np.ndarray) -> str:
    """Return an SVG of an image with the samples of the recorded query, from its offsets [2, O] in tokens."""
    placement = Placement(*(image[key] for key in ("image", "resized", "origin", "size")))
    height, width = placement.image
    sampled = sampling_map(np.repeat(offsets, site.channels_per_offset, axis=1), site.query, site.grid, site.kind)
    radius = 0.4 * min(site.stride_px) * height / placement.resized[0]
    colors = next(iter(PALETTES.values()))
    marks = []
    for direction, tokens in sampled.samples.items():
        for (i, j), count in zip(tokens.positions.tolist(), tokens.counts.tolist(), strict=True):
            token = [token_center_px(k, stride, "cell") for k, stride in zip((i, j), site.stride_px, strict=True)]
            y, x = placement.to_image(*token)
            opacity = 0.2 + 0.8 * np.sqrt(count / tokens.counts.max())
            look = f'fill="{colors[direction]}" fill-opacity="{opacity:.2f}" stroke="white"'
            marks.append(f"<{_SHAPES[direction].format(x=x, y=y, r=radius)} {look}/>")
    title = f"{html.escape(image['name'])}: what query token {site.query[0]}:{site.query[1]} samples in {site.title}"
    key = "green squares: points" if site.kind == "point" else "blue circles: horizontally, orange diamonds: vertically"
    photo = f'<image x="-0.5" y="-0.5" width="{width}" height="{height}" href="{image["photo"]}"/>' * bool(
        image["photo"]
    )
    return (
        f'<svg viewBox="-0.5 -0.5 {width} {height}" role="img" aria-label="{title}">{photo}{"".join(marks)}</svg>'
        f"<p>{title}; {key}</p>"
    )
