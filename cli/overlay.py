"""`atmviz overlay`: Fig. 5."""

import math
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from . import options
from .console import CONSOLE, image_progress, import_matplotlib, print_json, print_path, say, say_skipped, waiting

if TYPE_CHECKING:
    from atmviz.figures import OverlayPanel
    from atmviz.geometry import Placement


def overlay(
    sources: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="IMAGE",
            help="Images, folders or globs; a bundled photograph without one.",
            show_default=False,
        ),
    ] = None,
    layer: Annotated[
        list[str] | None,
        typer.Option("--layer", help="Layers, one panel each: 3_18, 2_1,3_7, 3_*, 3_last, all; repeatable."),
    ] = None,
    query: Annotated[
        list[str] | None,
        typer.Option(
            "--query",
            "-q",
            help="center, X,Y in px, fractions 0.3,0.6, ROW:COL in tokens, grid:4x4, random:8; repeatable.",
        ),
    ] = None,
    anchor: Annotated[
        options.AnchorChoice,
        typer.Option(help="Where a token is drawn: the centre of its cell, or of its receptive field."),
    ] = options.AnchorChoice.CELL,
    seed: options.Seed = 0,
    strict: options.Strict = False,
    size: options.Size = None,
    fit: options.FitOption = None,
    checkpoint: options.Checkpoint = options.DEFAULT_MODEL,
    model: options.ModelOption = None,
    weights: options.Weights = None,
    device: options.Device = "auto",
    out: options.FigureFolder = Path("."),
    formats: options.Format = "png",
    as_json: options.JsonOption = False,
) -> None:
    """Draw which tokens a query samples, on the image (Fig. 5)."""
    kinds = options.parse_formats(formats)
    preprocessing = options.choose_preprocessing(size, fit, None, default_fit="whole")
    with waiting("loading the model"):
        import_matplotlib()
        from atmviz.checkpoints import load_model, origin_of
        from atmviz.errors import DatasetError
        from atmviz.figures import draw_overlay, figure_name, overlay_panels, save_figure
        from atmviz.observe import find_sites, observe_image
        from atmviz.recording.query import parse_queries
        from atmviz.sources import bundled_photos, find_images

        queries = [one for text in query or ["center"] for one in parse_queries(text, seed)]
        images = find_images(list(sources)) if sources else bundled_photos().only("astronaut.jpg")
        if images.note:
            say(images.note)
        network = load_model(
            checkpoint,
            model=model,
            weights=weights.value if weights else None,
            device=device,
            events=CONSOLE,
        )
        origin = origin_of(network)
        sites = find_sites(network, layer or ["3_last"])

    skipped: dict[str, str] = {}
    described: list[dict[str, Any]] = []
    drawn = f"-seed{seed}" if seed else ""
    asked = [text.replace(":", "-") + drawn * text.startswith("random") for text in query or []]
    stems = [
        figure_name(
            subject, "overlay", origin.model, origin.trained, origin.sha256, [site.name for site in sites], asked
        )
        for subject in _subjects(images.names)
    ]
    with image_progress("drawing") as progress:
        for index, name in enumerate(images.names):
            progress(index, len(images))
            try:
                photo = images.read(index)
            except DatasetError as error:
                if strict or len(images) == 1:
                    raise
                skipped[name] = str(error)
                continue
            observed = observe_image(network, photo, preprocessing, sites)
            panels = overlay_panels(observed, queries, anchor.value)
            height, width = observed.placement.size
            where = f"at the centre of its {_ANCHOR_TEXT[anchor]}"
            seen = f"{100 * observed.placement.seen_share:.0f} % of the photograph is seen"
            figure = draw_overlay(
                photo,
                panels,
                columns=min(6, len(sites)) if len(sites) > 1 else min(4, math.ceil(len(queries) ** 0.5)),
                title=f"{origin.model} on {Path(name).name}, input {height}×{width} px",
                note=f"one dot per sampled token (the nearest), {where}; {_FIT_TEXT[preprocessing.fit]}: {seen}",
                trained=origin.trained,
            )
            files = save_figure(figure, out / stems[index], kinds)
            described.append(_describe(name, files, panels, observed.placement))
            if not as_json:
                for file in files:
                    print_path(file)
        progress(len(images), len(images))
    if not described:
        raise DatasetError(f"none of the {len(images)} images could be read; the first: {next(iter(skipped.values()))}")
    say_skipped(skipped)
    if as_json:
        print_json(
            {
                "model": origin.model,
                "trained": origin.trained,
                "preprocessing": options.describe(preprocessing),
                "skipped": skipped,
                "images": described,
            }
        )


_FIT_TEXT = {"whole": "not cropped", "squash": "squashed, not cropped", "crop": "centre crop"}
_ANCHOR_TEXT = {options.AnchorChoice.CELL: "cell", options.AnchorChoice.RF: "receptive field"}


def _subjects(names: tuple[str, ...]) -> list[str]:
    """One text per image, the shortest that tells them apart: stem, folders and suffix joined, the whole name."""
    stems = [Path(name).stem for name in names]
    joined = [name.replace("/", "-").replace(".", "-") for name in names]
    return next((some for some in (stems, joined) if len(set(some)) == len(names)), list(names))


def _describe(name: str, files: list[Path], panels: list["OverlayPanel"], placement: "Placement") -> dict[str, Any]:
    """What `--json` says of one image: the numbers that were drawn."""
    return {
        "image": name,
        "files": [str(file) for file in files],
        "input_size": list(placement.size),
        "seen": round(placement.seen_share, 4),
        "panels": [
            {
                "layer": panel.site.name,
                "source": panel.site.source,
                "query": str(panel.query),
                "query_token": list(panel.samples.query),
                "query_px": [round(value, 3) for value in panel.position_px(*panel.samples.query)][::-1],
                "map_size": list(panel.samples.grid),
                "channels": panel.samples.channels,
                "horizontal": panel.samples.horizontal.tolist(),
                "vertical": panel.samples.vertical.tolist(),
                "outside": {side: getattr(panel.samples, side) for side in ("left", "right", "top", "bottom")},
            }
            for panel in panels
        ],
    }
