"""`atmviz models`: the variants beside the paper's Table 1."""

import json

import pytest

# Millions of parameters, G FLOPs at 224 x 224, top-1 in %.
PAPER = {
    "atmnet_xtiny": (15, 2.2, 79.7),
    "atmnet_tiny": (27, 4.0, 82.0),
    "atmnet_small": (39, 6.9, 83.1),
    "atmnet_base": (52, 10.1, 83.5),
    "atmnet_large": (76, 12.3, 83.8),
}


def test_json_and_table_put_what_is_counted_beside_the_paper(succeed, monkeypatch):
    rows = {row["model"]: row for row in json.loads(succeed("models", "--json").stdout)}
    assert list(rows) == ["atmnet_nano", *PAPER]
    assert rows["atmnet_nano"]["paper"] is None
    for name, (params, flops, top1) in PAPER.items():
        assert round(rows[name]["params"] / 1e6) == params
        assert rows[name]["flops"] / 1e9 == pytest.approx(flops, rel=0.02)
        assert rows[name]["paper"]["top1"] == top1

    counts = iter([row["flops"] for row in rows.values()])  # counting again would take seconds
    monkeypatch.setattr("atmviz.complexity.count_flops", lambda *_: next(counts))
    table = succeed("models").stdout.splitlines()
    for name, (params, flops, top1) in PAPER.items():
        (line,) = (line for line in table if name in line)
        _, _, own_params, their_params, own_flops, their_flops, their_top1 = line.replace("│", " ").split()
        assert (float(their_params), float(their_flops), float(their_top1)) == (params, flops, top1)
        assert own_params == f"{rows[name]['params'] / 1e6:.3f}"
        assert own_flops == f"{rows[name]['flops'] / 1e9:.3f}"
