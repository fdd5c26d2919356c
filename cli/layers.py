"""`atmviz layers`: what can be named in --layer."""

from typing import Annotated, Any

import typer
from rich.table import Table

from . import options
from .console import CONSOLE, print_json, print_table, waiting


def layers(
    checkpoint: Annotated[
        str, typer.Argument(metavar="MODEL|CHECKPOINT", help="A variant's name or a checkpoint file.")
    ] = options.DEFAULT_MODEL,
    size: options.Size = None,
    weights: options.Weights = None,
    as_json: options.JsonOption = False,
) -> None:
    """List the ATM layers of a model: whose offsets they use, how many channels share one, the map size."""
    input_size = options.parse_size(size) if size else (224, 224)
    with waiting("loading the model"):
        from atmviz.checkpoints import load_model, origin_of
        from atmviz.geometry import map_size
        from atmviz.observe import find_sites

        network = load_model(
            checkpoint,
            weights=weights.value if weights else None,
            device="cpu",
            events=CONSOLE,
        )
    name = origin_of(network).model
    rows: list[dict[str, Any]] = [
        {
            "layer": site.name,
            "module": site.module,
            "offsets_of": site.source,
            "generates": site.is_source,
            "channels": site.channels,
            "offsets": site.num_offsets,
            "channels_per_offset": site.channels_per_offset,
            "map_size": list(map_size(input_size, site.stride_px[0])),
        }
        for site in find_sites(network)
    ]
    if as_json:
        print_json({"model": name, "size": list(input_size), "layers": rows})
        return
    table = Table(title=f"{name} at {input_size[0]}×{input_size[1]} px")
    for heading in ("layer", "module", "offsets of", "C", "O", "S", "map"):
        table.add_column(heading, justify="right" if heading in ("C", "O", "S", "map") else "left")
    for row in rows:
        own = "itself" if row["generates"] else str(row["offsets_of"])
        height, width = row["map_size"]
        numbers = (str(row["channels"]), str(row["offsets"]), str(row["channels_per_offset"]), f"{height}×{width}")
        table.add_row(str(row["layer"]), str(row["module"]), own, *numbers)
    table.caption = "C channels, O distinct offsets per direction, S channels sharing one"
    print_table(table)
