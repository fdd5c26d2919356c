"""`atmviz histogram`: Figs. 3, 6 and 7."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from atmviz.recording.settings import RecordingSettings

from . import options, record
from .console import import_matplotlib, is_main_process, print_json, print_path, say, say_skipped, waiting

if TYPE_CHECKING:
    from atmviz.recording.store import Recording
    from atmviz.sources import Source
    from atmviz.statistics import OffsetHistogram

_DEFAULT_LAYERS = ["2_1", "3_1", "3_last"]
# The paper names the data, input size and stages; the layers within a stage are our choice.
_PRESETS: dict[int, dict[str, Any]] = {
    3: {"dataset": options.Dataset.ADE20K, "size": "512x512", "layer": ["2_1", "3_last"], "limit": None},
    6: {"dataset": options.Dataset.COCO, "size": "600x800", "layer": ["2_1", "3_1", "3_last"], "limit": None},
    7: {"dataset": options.Dataset.IMAGENET, "size": "224x224", "layer": ["2_1", "3_1", "3_last"], "limit": 5000},
}


def histogram(
    sources: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="SOURCE",
            help="A recording, or images, folders or globs; the bundled photographs without one.",
            show_default=False,
        ),
    ] = None,
    layer: Annotated[
        list[str] | None,
        typer.Option("--layer", help="Layers: 3_18, 2_1,3_7, 3_*, 3_last, all; repeatable. [default: 2_1,3_1,3_last]"),
    ] = None,
    tokens: Annotated[
        options.TokensChoice, typer.Option("--tokens", help="Offsets of the centre token, or of all tokens.")
    ] = options.TokensChoice.CENTER,
    figure: Annotated[
        int | None,
        typer.Option(help="3, 6 or 7: dataset, size, layers and sample of that figure of the paper."),
    ] = None,
    dataset: options.DatasetOption = None,
    data_dir: options.DataDir = None,
    split: options.SplitOption = options.Split.VAL,
    limit: options.Limit = None,
    seed: options.Seed = 0,
    strict: options.Strict = False,
    size: options.Size = None,
    fit: options.FitOption = None,
    checkpoint: options.Checkpoint = options.DEFAULT_MODEL,
    model: options.ModelOption = None,
    weights: options.Weights = None,
    device: options.Device = "auto",
    batch_size: options.BatchSize = 8,
    workers: options.Workers = None,
    out: options.FigureFolder = Path("."),
    formats: options.Format = "png",
    as_json: options.JsonOption = False,
) -> None:
    """Draw how far the channels of each layer look, horizontally and vertically (Figs. 3, 6, 7).

    The recording behind the figure is cached: another layer or format is drawn without the model.
    """
    kinds = options.parse_formats(formats)
    ignored = {"--dataset": dataset, "--data-dir": data_dir, "--limit": limit, "--size": size, "--fit": fit}
    ignored |= {"--model": model, "--weights": weights, "--checkpoint": checkpoint != options.DEFAULT_MODEL}
    recording = _find_recording(sources, [name for name, value in ignored.items() if value])
    if figure is not None:
        if figure not in _PRESETS:
            raise typer.BadParameter(f"got figure {figure}, expected 3, 6 or 7 (figure 5 is `atmviz overlay`)")
        preset = _PRESETS[figure]
        dataset = dataset or (None if sources else preset["dataset"])
        size, layer, limit = size or preset["size"], layer or preset["layer"], limit or preset["limit"]
    if recording is None:
        fitting = {"size": size, "fit": fit.value if fit else None}
        running = {"batch_size": batch_size, "workers": workers, "strict": strict}
        settings = options.read_settings(RecordingSettings, {**fitting, **running})
        recording = _make_recording(
            record.find_source(sources, dataset, data_dir, split, limit, seed, settings.input_size),
            settings,
            layers=layer or _DEFAULT_LAYERS,
            checkpoint=checkpoint,
            model=model,
            weights=weights.value if weights else None,
            device=device,
        )
    if not is_main_process():
        return  # the first of torchrun's processes draws
    with waiting("drawing"):
        import_matplotlib()
        from atmviz.figures import MOST_PANELS
        from atmviz.layers import select_layers
        from atmviz.statistics import offset_histogram

        available = [site.name for site in recording.sites]
        chosen = select_layers(layer, available) if layer else _default_layers(available)
        if 2 * len(chosen) > MOST_PANELS:
            raise typer.BadParameter(
                f"got {len(chosen)} layers of 2 panels, expected at most {MOST_PANELS} panels: name fewer with --layer"
            )
        pairs = [
            (offset_histogram(recording, one, 0, tokens.value), offset_histogram(recording, one, 1, tokens.value))
            for one in chosen
        ]
        files = _write(recording, pairs, out, kinds)
    if as_json:
        flat = [histogram for pair in pairs for histogram in pair]
        fitted = options.describe(recording.preprocessing)
        said = {**recording.summary(), "preprocessing": fitted, "panels": _describe(flat)}
        print_json({"files": [str(file) for file in files], **said})
    else:
        for file in files:
            print_path(file)


def _find_recording(sources: list[str] | None, ignored: list[str]) -> "Recording | None":
    """The recording named as the source, None where the sources are images."""
    from atmviz.recording.layout import is_recording
    from atmviz.recording.store import open_recording

    found = [source for source in sources or [] if is_recording(Path(source))]
    if not sources or not found:
        return None
    if len(sources) > 1:
        raise typer.BadParameter(f"got {found[0]} and other sources, expected one: join recordings with `atmviz merge`")
    if ignored:
        raise typer.BadParameter(f"got the recording {found[0]} and {ignored[0]}, which it has fixed: leave one out")
    recording = open_recording(sources[0])
    if not recording.complete:
        say(f"{sources[0]} is incomplete: drawing its {len(recording)} finished images")
    return recording


def _default_layers(available: list[str]) -> list[str]:
    """The default layers, or all that were recorded where those were not."""
    from atmviz.errors import LayerNotFoundError
    from atmviz.layers import select_layers

    try:
        return select_layers(_DEFAULT_LAYERS, available)
    except LayerNotFoundError:
        return available


def _make_recording(
    images: "Source",
    settings: "RecordingSettings",
    *,
    layers: list[str],
    checkpoint: str,
    model: str | None,
    weights: str | None,
    device: str,
) -> "Recording":
    """The recording of these images and settings, from the cache or made now; `layers` are checked first."""
    from atmviz.checkpoints import require_model
    from atmviz.recording.cache import RecordingRequest, cached_recording

    made = []

    def make(folder: Path) -> "Recording":
        made.append(folder)
        return record.run_recording(
            images,
            folder,
            settings,
            checkpoint=checkpoint,
            model=model,
            weights=weights,
            device=device,
            needed=layers,
        )

    recording = cached_recording(RecordingRequest(images, checkpoint, weights, settings), make)
    if not made:
        require_model(recording.model, model, checkpoint)
        if settings.strict:
            recording.require_all()
        say(f"using the cached recording {recording.path}")
        say_skipped(dict.fromkeys(recording.skipped, ""))
    return recording


def _write(
    recording: "Recording", pairs: list[tuple["OffsetHistogram", "OffsetHistogram"]], out: Path, kinds: list[str]
) -> list[Path]:
    from atmviz.figures import draw_histograms, figure_name, save_figure
    from atmviz.files import write_csv
    from atmviz.statistics import histogram_table

    attrs = recording.attrs
    height, width = attrs["input_size"]
    first = pairs[0][0]
    which = "all tokens" if first.tokens == "all" else "the centre token"
    if first.tokens == "center" and attrs["query"] != "center":
        which = f"query token {attrs['query']}"
    outside = "those outside the map are in the bars" if first.tokens == "all" else "those outside the map have no bar"
    drawn = draw_histograms(
        pairs,
        title=f"{recording.model} on {attrs['dataset']}, {height}×{width} px: offsets of {which}",
        note=f"{len(recording):,} images; one bar per nearest token of a sample; {outside}; "
        f"{recording.preprocessing.describe()}",
        trained=recording.trained,
    )
    layers = [pair[0].site.name for pair in pairs]
    sha256 = attrs["checkpoint"]["sha256"]
    details = ["all-tokens"] if first.tokens == "all" else [str(attrs["query"]).replace(":", "-")]
    details = [detail for detail in details if detail != "center"]
    name = figure_name(attrs["dataset"], "histogram", recording.model, recording.trained, sha256, layers, details)
    files = save_figure(drawn, out / name, kinds)
    table = out / f"{name}.csv"
    write_csv(table, histogram_table([histogram for pair in pairs for histogram in pair]))
    return [*files, table]


def _describe(histograms: list["OffsetHistogram"]) -> list[dict[str, Any]]:
    from atmviz.observe.site import AXES

    return [
        {
            "layer": one.site.name,
            "source": one.site.source,
            "axis": AXES[one.axis],
            "map_size": list(one.site.grid),
            "query": list(one.site.query),
            "channels": one.site.channels,
            "range": [one.first, one.last],
            "mean_abs_offset": one.mean_abs,
            "outside_share": one.outside_share,
        }
        for one in histograms
    ]
