"""A report in a real browser: it asks for nothing, fits a phone and paper, and people who do not see it can use it."""

import pytest

import atmviz


@pytest.fixture(scope="module")
def page(labeled, recording, tmp_path_factory):
    return atmviz.report([labeled, recording]).save(tmp_path_factory.mktemp("reports") / "report.html")


@pytest.mark.parametrize(("theme", "width"), [("light", 1440), ("dark", 390)])
def test_it_fits_the_screen_and_is_accessible(visit, page, axe, theme, width):
    shown = visit(page, color_scheme=theme, viewport={"width": width, "height": 900})
    assert shown.evaluate("document.documentElement.scrollWidth") <= width
    broken = "[...document.images].filter(image => !image.complete || !image.naturalWidth).length"
    assert shown.evaluate(broken) == 0
    background = shown.evaluate("getComputedStyle(document.body).backgroundColor")
    assert background == {"light": "rgb(255, 255, 255)", "dark": "rgb(22, 22, 22)"}[theme]
    shown.evaluate(axe)
    found = shown.evaluate("axe.run()")
    assert [(each["id"], each["nodes"][0]["html"][:200]) for each in found["violations"]] == []


def test_it_prints_on_paper_in_light(visit, page):
    shown = visit(page, color_scheme="dark", viewport={"width": 680, "height": 900})
    shown.emulate_media(media="print", color_scheme="dark")
    assert shown.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    assert shown.evaluate("getComputedStyle(document.images[0]).filter") == "none"
    assert shown.evaluate("document.documentElement.scrollWidth") <= 680
    assert shown.pdf(format="A4").startswith(b"%PDF-")
