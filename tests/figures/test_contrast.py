"""Contrast, by numbers that WCAG's definition gives."""

import pytest

from atmviz.figures.contrast import contrast, luminance, rim_colors


@pytest.mark.parametrize(
    ("color", "expected"), [("black", 0), ("white", 1), ("#ff0000", 0.2126), ("#808080", 0.2159), ("#0a0a0a", 0.003)]
)
def test_luminance_is_that_of_the_standard(color, expected):
    assert luminance(color) == pytest.approx(expected, abs=1e-4)


def test_contrast_is_that_of_the_standard_in_either_order():
    assert contrast("#777777", "white") == contrast("white", "#777777") == pytest.approx(4.48, abs=0.005)
    assert contrast("red", "red") == 1


@pytest.mark.parametrize(("fill", "inner"), [("#00008b", "white"), ("#ffd700", "black")])
def test_the_line_next_to_a_fill_is_the_one_that_contrasts_with_it(fill, inner):
    assert rim_colors(fill) == (inner, {"white": "black", "black": "white"}[inner])
