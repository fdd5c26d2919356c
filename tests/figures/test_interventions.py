"""Figures of interventions: bars lie where the changes are, curves where the metric is, all can be read."""

import numpy as np
import pytest

from atmviz.figures.interventions import draw_interventions
from atmviz.figures.settings import FigureStyle

NAMES = ("zero", "mirror", "constant", "position", "other", "shuffle", "swap", "clamp:1", "round")
LAYERS = ("1_1", "2_1", "3_1", "3_7", "3_13", "4_1")
TEXTS = {"title": "atmnet_nano-8cf39f on shapes val, 300 images: worth of offsets", "note": "not retrained"}


def row(name, layer="all", change=-5.0, half=2.0):
    ends = {"low": change - half, "high": change + half}
    value = {"metric": "top1", "value": 90 + change, "baseline": 90.0, "change": change}
    return {"intervention": name, "layer": layer, **value, **ends}


def draw(rows, **style):
    return draw_interventions(rows, **TEXTS, trained=True, style=FigureStyle(**style))


def panels(figure):
    return [panel for part in figure.subfigs for panel in part.axes if panel.get_visible()]


def test_of_all_layers_there_is_one_panel_of_bars_with_intervals():
    (panel,) = panels(draw([row("zero", change=-60), row("mirror", change=-50), row("scale:2", change=1.5)]))
    assert [bar.get_width() for bar in panel.patches] == [-60, -50, 1.5]
    assert [label.get_text() for label in panel.get_yticklabels()] == ["zero", "mirror", "scale:2"]
    assert panel.yaxis_inverted(), "the first is on top"
    assert [line[:, 0].tolist() for line in panel.collections[0].get_segments()] == [
        [-62, -58],
        [-52, -48],
        [-0.5, 3.5],
    ]


def test_of_single_layers_each_intervention_has_a_panel():
    drawn = panels(draw([row(name, layer) for name in NAMES for layer in LAYERS]))
    assert [panel.get_title() for panel in drawn] == [*NAMES]
    assert [label.get_text() for label in drawn[0].get_yticklabels()] == [*LAYERS]
    assert len({panel.get_xlim() for panel in drawn}) == 1


def test_several_clamps_are_a_curve_for_each_group_with_the_reach_of_fixed_mixers():
    radii, stages = (0.5, 1, 2, 4, 8), ("stage 1", "stage 2")
    rows = [row(f"clamp:{radius:g}", stage, -10 / radius) for radius in reversed(radii) for stage in stages]
    figure = draw([*rows, row("clamp:inf", "stage 1", 0.0)])
    bars, curves = panels(figure)
    assert len(bars.patches) == 1
    lines = {line.get_label(): line for line in curves.lines}
    assert [*lines] == [
        *stages, "learned offsets", "reach of CycleMLP, Shift (1)", "reach of AS-MLP of shift size 5 (2)",
    ]  # fmt: skip
    for stage in stages:
        assert lines[stage].get_xdata().tolist() == [*radii]
        assert lines[stage].get_ydata().tolist() == [90 - 10 / radius for radius in radii]
    assert len({lines[stage].get_marker() for stage in stages}) == 2
    assert curves.get_xscale() == "log"
    (few,) = panels(draw([row("clamp:4"), row("clamp:0")]))
    assert few.get_xscale() == "symlog"
    assert [label.get_text() for label in few.get_xticklabels()] == ["0", "4"]


def test_what_has_no_interval_or_value_is_drawn_without():
    nan = float("nan")
    (panel,) = panels(draw([row("zero", half=nan), row("swap", change=nan)]))
    assert np.isfinite(panel.patches[0].get_width())
    assert panel.patches[0].get_width() == -5
    assert panels(draw([row("clamp:1", change=nan), row("clamp:2", half=nan)]))
    assert panels(draw([row(name, change=nan) | {"baseline": nan} for name in ("clamp:1", "clamp:2")]))


@pytest.mark.parametrize("width", [None, "column", "slide"])
@pytest.mark.parametrize("kind", ["bars", "layers", "both"])
def test_everything_can_be_read_at_any_width(unreadable, width, kind):
    rows = {
        "bars": [row(name) for name in NAMES],
        "layers": [row(name, layer) for name in NAMES for layer in LAYERS],
        "both": [row(f"clamp:{r:g}", f"stage {s}") for r in (0.5, 1, 2, 4, 8) for s in (1, 2, 3, 4)]
        + [row("zero", f"stage {s}") for s in (1, 2, 3, 4)],
    }[kind]
    assert unreadable(draw(rows, width=width)) == []
