"""The colors of the page's marks are told apart by color-blind people too, and shapes double them."""

import itertools

import numpy as np
import pytest

from atmviz.explorer.palettes import PALETTES

# Machado, Oliveira and Fernandes 2009, severity 1: linear RGB as dichromats see it
BLIND = {
    "deuteranopia": [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.01182, 0.04294, 0.968881]],
    "protanopia": [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]],
    "grayscale": [[0.2126, 0.7152, 0.0722]] * 3,
}
TO_XYZ = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]])


def lab(color, matrix):
    """A hexadecimal color in CIELAB, as it is seen."""
    rgb = np.array([int(color[k : k + 2], 16) for k in (1, 3, 5)]) / 255
    linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
    xyz = TO_XYZ @ np.clip(np.array(matrix) @ linear, 0, 1) / TO_XYZ.sum(1)
    f = np.where(xyz > 0.008856, np.cbrt(xyz), 7.787 * xyz + 16 / 116)
    return np.array([116 * f[1] - 16, 500 * (f[0] - f[1]), 200 * (f[1] - f[2])])


@pytest.mark.parametrize("palette", PALETTES)
@pytest.mark.parametrize(("vision", "least"), [("deuteranopia", 25), ("protanopia", 25), ("grayscale", 2)])
def test_marks_differ_in_color_for_everyone(vision, least, palette):
    """A difference of 2.3 is just seen. In grayscale, horizontal and vertical are told apart by their shapes."""
    seen = {
        name: lab(color, BLIND[vision])
        for name, color in PALETTES[palette].items()
        if name not in ("words", "stops", "shades")
    }
    assert seen.keys() == {"horizontal", "vertical", "point", "lit"}
    distances = {pair: np.linalg.norm(seen[pair[0]] - seen[pair[1]]) for pair in itertools.combinations(seen, 2)}
    assert min(distances.values()) > least, distances


@pytest.mark.parametrize("palette", PALETTES)
def test_shades_run_through_the_stops_of_a_palette(palette):
    shades, stops = PALETTES[palette]["shades"], PALETTES[palette]["stops"]
    assert (len(shades), shades[::16]) == (129, list(stops))
    steps = [np.linalg.norm(lab(a, np.eye(3)) - lab(b, np.eye(3))) for a, b in itertools.pairwise(shades)]
    assert max(steps) < 5
