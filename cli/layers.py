"""`atmviz layers`: what can be named in --layer."""

from typing import Any

from atmviz.choices import ModelChoice

from . import options
from .console import CONSOLE, print_json, print_rows, waiting


def layers(
    checkpoint: options.Checkpoint = options.DEFAULT_MODEL,
    size: options.Size = "224",
    weights: options.Weights = None,
    as_json: options.JsonOption = False,
) -> None:
    """List the ATM layers of a model: whose offsets they use, their channels, the size of their maps."""
    height, width = options.parse_size(size or 224)
    ModelChoice(checkpoint=checkpoint).require()
    with waiting("loading the model"):
        from atmviz.checkpoints import load_model, origin_of
        from atmviz.geometry import map_size
        from atmviz.observe import find_sites

        network = load_model(checkpoint, weights=weights, device="cpu", events=CONSOLE)
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
            "map_size": list(map_size((height, width), site.stride_px[0])),
        }
        for site in find_sites(network)
    ]
    if as_json:
        print_json({"model": name, "size": [height, width], "layers": rows})
        return
    for row in rows:
        row |= {"map_size": "{}×{}".format(*row["map_size"])}
        row |= {"offsets_of": "itself"} if row.pop("generates") else {}
    print_rows(
        f"{name} at {height}×{width} px",
        ("layer", "module", "offsets of", "C", "O", "S", "map"),
        (row.values() for row in rows),
        "C channels, O distinct offsets per direction, S channels that share an offset",
        texts=3,
    )
