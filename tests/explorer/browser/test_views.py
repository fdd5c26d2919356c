"""What a page shows of two models, and what its controls change: names, colors, weights, orders."""

import json
import re

import numpy as np
import pytest

from atmviz.explorer.exploring import make_page
from atmviz.explorer.palettes import PALETTES
from atmviz.statistics.sampling import sampling_map


def offsets_at(recording, image, site, query):
    """Offsets [2, O] of a token, in tokens, as recorded."""
    return recording.read("map", site.name)[image][query] / 64


def test_models_blink_but_not_for_those_who_want_no_motion(visit, compared):
    page, seen = visit(compared, "#v=1&cmp=blink&m=1"), set()
    for _ in range(12):
        page.wait_for_timeout(150)
        seen.add(
            page.evaluate("""[
            atmviz.readout().model, document.querySelector("#read").textContent.match(/: (.) atm/)[1],
            document.querySelector("#stage text").textContent[0], atmviz.state.model, /m=1/.test(location.hash)
        ].join(" ")""")
        )
    assert seen == {
        "atmnet_nano A A 1 true",
        "atmnet_nano-8cf39f B B 1 true",
    }  # the link holds the view, not whose turn it is
    assert re.search(r"A atmnet_nano \(untrained\): .*; B atmnet_nano-8cf39f: ", page.locator("#live").text_content())
    still = visit(compared, "#v=1&cmp=blink", reduced_motion="reduce")
    model = "atmviz.readout().model"
    assert {still.evaluate(model) for _ in range(5) if not still.wait_for_timeout(200)} == {"atmnet_nano-8cf39f"}
    still.keyboard.press("c")
    assert still.evaluate(model) == "atmnet_nano"


def test_two_models_are_named_wherever_numbers_or_marks_are_of_one(visit, compared):
    page = visit(compared, "#v=1&l=3_13&q=3,6&cmp=side")
    labels = "[...document.querySelectorAll('#stage text')].map(each => each.textContent)"
    names = ["A atmnet_nano-8cf39f", "B atmnet_nano (untrained)"]
    assert page.evaluate(labels) == names
    assert all(f"{name}: mean |offset| " in page.locator("#read").text_content() for name in names)
    rings = page.evaluate("""[...document.querySelectorAll("#stage svg")].map(
        svg => ["cx", "cy"].map(key => svg.querySelector(".query").getAttribute(key)).join())""")
    assert len(rings) == 2
    assert rings[0] == rings[1]
    page.evaluate("atmviz.go('#v=1&l=3_13&q=3,6&cmp=split&c=2')")
    assert page.evaluate(labels) == names
    assert re.search(
        rf"channels \d+ to \d+: {names[0]}: .*; {re.escape(names[1])}: ", page.locator("#focus").text_content()
    )
    page.evaluate("atmviz.go('#v=1&l=3_13&q=3,6&cmp=diff')")
    assert page.evaluate(labels) == [f"dots: {names[0]}"]
    assert page.locator("#read").text_content().partition("; dots: ")[2].startswith(names[0])
    page.locator("#other").select_option("atmnet_nano-8cf39f")
    page.wait_for_timeout(200)
    assert page.title() == "A: atmnet_nano (untrained), B: atmnet_nano-8cf39f"
    assert page.evaluate(labels) == ["dots: A atmnet_nano (untrained)"]


def test_a_model_without_offsets_does_not_press_the_bars_of_the_other(visit, record, photographs, recording, tmp_path):
    still = record(photographs, "init:atmnet_nano")
    page = visit(make_page([recording, still]).save(tmp_path / "still.html"), "#v=1&l=3_13&q=3,6&cmp=split")
    texts = "[...document.querySelectorAll('#bars text')].map(each => each.textContent)"
    assert [text for text in page.evaluate(texts) if text.startswith("↑")] == ["↑ 100 %"] * 2
    tops = page.evaluate(f"{texts}.filter(text => /^\\d+ %$/.test(text))")
    assert len(tops) == 2
    assert all(int(top[:-2]) < 80 for top in tops)
    page.keyboard.press("x")
    page.wait_for_timeout(200)
    assert page.evaluate(f"{texts}.filter(text => /^\\d+ %$/.test(text))") == tops


def test_colors_are_picked_for_marks_bars_legend_and_cells(visit, look, recording):
    page = visit(look, "#v=1&l=3_1&q=2,3&pal=purple-green")
    colors = PALETTES["purple-green"]
    for axis, shape in (("horizontal", "circle"), ("vertical", "path")):
        fills = "new Set([...document.querySelectorAll('{}')].map(each => each.getAttribute('fill')))"
        for where in (f"#stage {shape}.{axis}", f"#legend {shape}[data-kind]"):
            assert page.evaluate(f"[...{fills.format(where)}]") == [colors[axis]]
    site = recording.site("3_1")
    page.evaluate("atmviz.go('#v=1&l=3_1&q=2,3&pal=gray')")
    pixel = page.evaluate("""(() => {
        const cells = document.getElementById("cells"), scale = cells.width / cells.clientWidth;
        return [...cells.getContext("2d").getImageData(62 * scale, (18 + 22 * 4.5) * scale, 1, 1).data].slice(0, 3);
    })()""")
    scale = json.loads(page.locator("#header").text_content())["scale"]["tokens"]
    part = np.clip(offsets_at(recording, 0, site, (2, 3))[0, 0] / scale, -1, 1)
    expected = PALETTES["gray"]["shades"][round(64 + 64 * part)]
    assert "#" + "".join(f"{value:02x}" for value in pixel) == expected


def test_contributions_weigh_channels_by_their_branch(visit, look, recording):
    page = visit(look, "#v=1&i=1&l=3_13&q=3,6&by=contribution")
    site = recording.site("3_13")
    weights = recording.read("fusion", "3_13")[1][:2]
    exact = np.repeat(offsets_at(recording, 1, site, (3, 6)), site.channels_per_offset, axis=1)
    samples = sampling_map(exact, (3, 6), site.grid).samples
    expected = {axis: weights[k] * samples[axis].counts for k, axis in enumerate(("horizontal", "vertical"))}
    strongest = max(values.max() for values in expected.values())
    for axis, values in expected.items():
        found = page.evaluate(
            f"""[...document.querySelectorAll("#stage .{axis}")].map(each => +each.getAttribute("fill-opacity"))"""
        )
        assert sorted(found) == pytest.approx(sorted(0.2 + 0.8 * np.sqrt(values / strongest)), abs=2e-3)
    assert f"; fusion weights {weights[0]:.2f} and {weights[1]:.2f}" in page.locator("#read").text_content()


def test_columns_are_stepped_through_as_they_are_shown(visit, look):
    page = visit(look, "#v=1&l=3_1&q=2,3&o=role")
    orders = json.loads(page.locator("#header").text_content())["orders"]["3_1"]
    seen = []
    for key in "..,.":
        page.keyboard.press(key)
        seen.append(page.evaluate("atmviz.state.column"))
    first, second = orders["role"][0][:2]
    assert seen == [first, second, first, second]
    page.wait_for_timeout(200)
    role = ("constant", "position", "image", "content")[orders["roles"][0][second]]
    assert f", mostly {role} and " in page.locator("#focus").text_content()


def test_a_diamond_on_a_circle_leaves_it_to_be_seen(visit, look, recording):
    page, site = visit(look, "#v=1"), recording.site("3_13")
    nearest = np.rint(recording.read("map", "3_13")[0] / 64)
    both = np.argwhere((nearest == 0).any(axis=3).all(axis=2))  # tokens that sample themselves along both axes
    assert len(both)
    for i, j in both[:3].tolist():
        page.evaluate("link => atmviz.go(link)", f"#v=1&l=3_13&q={i},{j}")
        radii = page.evaluate("""(() => {
            const ring = document.querySelector("#stage .query"), at = ["cx", "cy"].map(key => +ring.getAttribute(key));
            const marks = document.querySelectorAll("#stage .horizontal, #stage .vertical");
            const boxes = [...marks].map(each => each.getBBox());
            return boxes.filter(box => Math.hypot(box.x + box.width / 2 - at[0], box.y + box.height / 2 - at[1]) < 0.1)
              .map(box => box.width / 2);
        })()""")
        assert len(radii) == 2
        assert radii[1] == pytest.approx(0.6 * radii[0], rel=0.01)
    assert site.kind == "axis"


def test_what_a_link_asks_for_in_vain_is_named_and_the_rest_is_shown(visit, look):
    page = visit(look, "#v=1&i=2&l=9_9&q=2,3&u=miles&zz=<b>")
    notice = page.locator("#notice[role=status]")
    assert notice.text_content() == "Not on this page, and left out of the link: l=9_9, u=miles, zz=<b>"
    assert page.evaluate("[atmviz.state.image, atmviz.readout().query]") == [2, [2, 3]]
    page.evaluate("atmviz.go('#v=1&i=2')")
    assert notice.text_content() == ""


def test_what_people_read_has_one_minus_sign_and_no_cut_layer(visit, compared):
    for width in (1440, 390):
        page = visit(compared, "#v=1&l=3_14&c=1&cmp=diff&b=h,-3,-1", viewport={"width": width, "height": 900})
        page.locator("#table").evaluate("element => { element.open = true }")
        page.wait_for_timeout(200)
        text = page.evaluate("document.body.innerText + document.getElementById('bars').textContent")
        assert re.findall(r"(?:^|[\s(])-\d\S*", text) == []
        assert "−" in text
        sizes = page.evaluate("""(() => {
            const select = document.getElementById("layer"), copy = select.cloneNode(true);
            copy.id = "";
            copy.style.maxWidth = "none";
            document.body.append(copy);
            return [select.offsetWidth, copy.offsetWidth, innerWidth - select.getBoundingClientRect().right];
        })()""")
        assert sizes[0] == sizes[1]
        assert sizes[2] > 0
