"""The page in a real browser: its numbers, its keys and gestures, its links and files."""

import csv
import io
import json
import random
import re
import shlex
import xml.etree.ElementTree as ET
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from atmviz.explorer.exploring import make_page
from atmviz.explorer.palettes import PALETTES
from atmviz.geometry import Preprocessing, token_center_px
from atmviz.models import create_model
from atmviz.recording.run import run_recording
from atmviz.recording.settings import RecordingSettings
from atmviz.recording.store import open_recording
from atmviz.statistics.sampling import sampling_map

SVG = "{http://www.w3.org/2000/svg}"


def offsets_at(recording, image, site, query):
    """Offsets [2, O] of a token, in tokens, as recorded."""
    return recording.read("map", site.name)[image][query] / 64


def wait(page):
    """Wait until what was asked for is drawn, and its address too."""
    page.wait_for_timeout(450)


def box_of(page, selector):
    """The box of an element; the page may be drawing it anew."""
    for _ in range(100):
        if box := page.locator(selector).bounding_box():
            return box
        page.wait_for_timeout(20)
    pytest.fail(f"{selector} is not shown")


def test_numbers_of_200_queries_are_those_of_numpy(visit, look, recording):
    page, draw = visit(look), random.Random(0)
    maps = {site.source: recording.read("map", site.source) / 64 for site in recording.sites}
    for _ in range(200):
        image, site = draw.randrange(len(recording)), draw.choice(recording.sites)
        query = draw.randrange(site.grid[0]), draw.randrange(site.grid[1])
        said = page.evaluate("link => atmviz.go(link)", f"#v=1&i={image}&l={site.name}&q={query[0]},{query[1]}")
        exact = maps[site.source][image][query]
        expected = sampling_map(np.repeat(exact, site.channels_per_offset, axis=1), query, site.grid, site.kind)
        assert (said["image"], said["layer"], said["source"]) == (recording.images[image], site.name, site.source)
        assert (tuple(said["query"]), said["channels"]) == (query, expected.channels)
        assert said["horizontal"] == expected.along("horizontal").tolist()
        assert said["vertical"] == expected.along("vertical").tolist()
        assert said["outside"] == dict(expected.outside)
        assert [said["offsets"][axis] for axis in ("horizontal", "vertical")] == exact.tolist()
        assert list(said["mean_abs"].values()) == pytest.approx(np.abs(exact).mean(1).tolist(), abs=1e-12)


def test_a_small_page_shows_the_same_nearest_tokens(visit, recording, tmp_path):
    from atmviz.explorer.settings import ExplorerSettings

    whole = make_page([recording])
    small = make_page([recording], ExplorerSettings(max_size=whole.numbers["bytes"] - 1))
    first, second = visit(whole.save(tmp_path / "a.html")), visit(small.save(tmp_path / "b.html"))
    for link in ("#v=1&l=1_1&q=3,17", "#v=1&i=2&l=4_1&q=1,1", "#v=1&i=1&l=3_7&q=5,0"):
        one, two = (page.evaluate("link => atmviz.go(link)", link) for page in (first, second))
        assert one["offsets"] != two["offsets"]
        assert [one[key] for key in ("horizontal", "vertical", "outside")] == [
            two[key] for key in ("horizontal", "vertical", "outside")
        ]


def test_two_dimensional_points_are_squares_where_both_offsets_point(visit, photographs, tmp_path):
    network = create_model("atmnet_nano", offset_mode="joint").eval()
    settings = RecordingSettings(keep=("maps",), layers=("3_1",), workers=0)
    points = run_recording(
        photographs, network, tmp_path / "out", settings, preprocessing=Preprocessing((64, 96))
    ).recording
    page = visit(make_page([points]).save(tmp_path / "points.html"), "#v=1&l=3_1&q=3,5")
    (site,) = points.sites
    exact = np.repeat(offsets_at(points, 0, site, (3, 5)), site.channels_per_offset, axis=1)
    expected = sampling_map(exact, (3, 5), site.grid, "point")
    sampled = expected.samples["point"]
    counts = {
        f"{i},{j}": count for (i, j), count in zip(sampled.positions.tolist(), sampled.counts.tolist(), strict=True)
    }
    said = page.evaluate("atmviz.readout()")
    assert (said["points"], said["outside"]) == (counts, dict(expected.outside))
    assert page.locator("#stage rect.point").count() == len(counts)


def test_a_notebook_frame_shows_the_page(visit, look, recording, tmp_path):
    notebook = tmp_path / "notebook.html"
    notebook.write_text(f"<!doctype html><body data-ready=1>{make_page([recording])._repr_html_()}", encoding="utf-8")
    frame = visit(notebook).frame_locator("iframe")
    frame.locator("body[data-ready]").wait_for(timeout=3000)
    assert frame.locator("#read").text_content() == visit(look).locator("#read").text_content()


def centers(svg):
    """The center (y, x) and the count of each circle and diamond, by class."""
    found = {"horizontal": [], "vertical": []}
    for mark in ET.fromstring(svg).iter():
        if mark.get("class") == "horizontal":
            found["horizontal"].append((float(mark.get("cy")), float(mark.get("cx")), int(mark.get("data-count"))))
        if mark.get("class") == "vertical":
            x, top, right, down = map(float, re.match(r"M(\S+) (\S+?)l(\S+) (\S+?)l", mark.get("d")).groups())
            found["vertical"].append((top + down, x, int(mark.get("data-count"))))
            assert right == down
    return found


def saved(page, kind):
    page.locator("#export").evaluate("element => { element.open = true }")
    with page.expect_download() as download:
        page.locator(f"[data-export={kind}]").click()
    return Path(download.value.path()).read_bytes()


def test_marks_of_the_saved_picture_are_where_geometry_says(visit, look, recording):
    page, image, query = visit(look), 1, (2, 7)
    site = recording.site("3_7")
    with Image.open(Path(recording.attrs["image_root"], "cat.jpg")) as photo:
        placement = recording.preprocessing.place(photo.height, photo.width)
    page.evaluate("atmviz.go('#v=1&i=1&l=3_7&q=2,7')")
    picture = saved(page, "svg")
    marks = centers(picture)
    texts = [text.text for text in ET.fromstring(picture).iter(f"{SVG}text")]
    assert texts[:3] == ["horizontal", "vertical", "query"]
    sha = recording.attrs["checkpoint"]["sha256"][:12]
    assert f"atmnet_nano-8cf39f, weights {sha}; cat.jpg; 3 images of " in texts[-1]
    exact = np.repeat(offsets_at(recording, image, site, query), site.channels_per_offset, axis=1)
    for direction, sampled in sampling_map(exact, query, site.grid).samples.items():
        expected = []
        for (i, j), count in zip(sampled.positions.tolist(), sampled.counts.tolist(), strict=True):
            y, x = (token_center_px(k, stride, "cell") for k, stride in zip((i, j), site.stride_px, strict=True))
            expected.append((*placement.to_image(y, x), count))
        assert np.abs(np.array(sorted(marks[direction])) - np.array(sorted(expected))).max() < 0.01


def test_saved_files_are_of_what_is_shown(visit, look, recording):
    page = visit(look, "#v=1&i=2&l=3_1&q=4,8&s=v,4,5,1,3")
    assert Image.open(io.BytesIO(saved(page, "png"))).width == 1800
    rows = list(csv.DictReader(io.StringIO(saved(page, "csv").decode())))
    exact = offsets_at(recording, 2, recording.site("3_1"), (4, 8))
    assert [(row["layer"], row["axis"], int(row["offset_index"])) for row in rows] == [
        (layer, "vertical", column) for layer in ("3_1", "3_2") for column in (1, 2, 3)
    ]
    assert [float(row["tokens"]) for row in rows] == [*exact[1, 1:4], *exact[1, 1:4]]
    assert [float(row["px"]) for row in rows[:3]] == (16 * exact[1, 1:4]).tolist()
    assert {row["image"] for row in rows} == {"rocket.jpg"}
    said = json.loads(saved(page, "json"))
    assert said["offsets"]["vertical"] == exact[1].tolist()
    assert page.evaluate("link => atmviz.go(link)", said["link"])["text"] == said["text"]


def test_the_command_draws_the_same_view(visit, look, succeed_overlay):
    page = visit(look, "#v=1&i=2&l=3_1&q=4,8")
    page.locator("#export").evaluate("element => { element.open = true }")
    page.locator("[data-export=command]").click()
    page.locator("#focus:not(:empty)").wait_for()
    words = shlex.split(page.locator("#focus").text_content().partition(": ")[2])
    (panel,) = succeed_overlay(words)["panels"]
    said = page.evaluate("atmviz.readout()")
    assert words[:2] == ["atmviz", "overlay"]
    assert panel["query_token"] == said["query"]
    assert (panel["horizontal"], panel["vertical"]) == (said["horizontal"], said["vertical"])


def test_the_command_has_pins_colors_and_both_models_and_says_what_it_lacks(visit, compared):
    page = visit(compared, "#v=1&i=2&l=3_1&q=4,8&p=0,0;5,9&a=h&pal=gray&cmp=split&c=3")
    page.locator("#export").evaluate("element => { element.open = true }")
    page.locator("[data-export=command]").click()
    page.locator("#focus", has_text="atmviz overlay").wait_for()
    said, _, command = page.locator("#focus").text_content().partition(": ")
    assert re.fullmatch(r"cop(ied|y this) \(it does not draw the region, block, column, .*\)", said)
    first, second = (shlex.split(part) for part in command.split(" && "))
    for words in (first, second):
        assert [words[k + 1] for k, word in enumerate(words) if word == "--query"] == ["4:8", "0:0", "5:9"]
        assert words[-4:] == ["--axis", "horizontal", "--palette", "#101010,#a8a8a8"]
    assert second[second.index("-c") : second.index("-c") + 4] == ["-c", "atmnet_nano", "--seed", "0"]


def test_there_is_a_reason_where_there_is_no_command(visit, recording, labeled, tmp_path):
    from atmviz.explorer.settings import ExplorerSettings

    safe = ExplorerSettings(share_safe=True)
    for source, starts in (
        (recording, r"cop(ied|y this) \(put in IMAGE and CHECKPOINT, "),
        (labeled, "there is no command: the image was drawn"),
    ):
        page = visit(make_page([source], safe).save(tmp_path / "safe.html"))
        page.locator("#export").evaluate("element => { element.open = true }")
        page.locator("[data-export=command]").click()
        page.locator("#focus:not(:empty)").wait_for()
        assert re.match(starts, page.locator("#focus").text_content())


@pytest.fixture
def succeed_overlay(tmp_path, monkeypatch):
    """Runs `atmviz overlay ...` and gives what it says of its first image."""
    from atmviz_cli.app import app
    from typer.testing import CliRunner

    monkeypatch.chdir(tmp_path)

    def run(words):
        result = CliRunner().invoke(app, [*words[1:], "--json"], catch_exceptions=False)
        assert result.exit_code == 0, result.output
        return json.loads(result.stdout)["images"][0]

    return run


LINKS = (
    "#v=1&i=2&l=3_1&q=4,8&a=h&u=px&c=5&o=mean&p=0,0;5,9&b=h,-3,2&path=1",
    "#v=1&i=1&l=4_1&q=0,4&a=hv&u=%25&m=1&cmp=split&w=30&o=spread&r=-4,3,80,150",
    "#v=1&i=0&l=1_1&q=23,39&a=v&u=tokens&cmp=diff&s=v,3,9,2,11",
)


@pytest.mark.parametrize("link", LINKS)
def test_a_link_leads_back_to_the_same_view(visit, compared, link):
    page = visit(compared, link)
    state, said = page.evaluate("[atmviz.state, atmviz.readout()]")
    wait(page)
    written = page.evaluate("location.hash")
    usual = {f"m={state['model']}", f"o={state['order']}"}
    assert sorted(re.split("[#&]", written)) == sorted(usual.union(re.split("[#&]", link)))
    again = visit(compared, written)
    assert again.evaluate("[atmviz.state, atmviz.readout()]") == [state, said]


@pytest.mark.parametrize(
    "link",
    ["#v=2&i=1", "#v=1&i=99&l=9_9&q=999,0&a=x&u=miles&c=-1&cmp=<b>&p=1;2;x&b=h,1&s=h,9,1,0,0&r=1,2,3", "#__proto__=1",
     "#v=1&i=1e0&l=<img src=x onerror=alert(1)>&q=1.5,2&c=99999999999999999999&w=-1&m=7", "#" + "v=1&" * 5000],
)  # fmt: skip
def test_a_wrong_link_is_ignored(visit, look, link):
    usual = visit(look).evaluate("[atmviz.state, atmviz.readout()]")
    assert visit(look, link).evaluate("[atmviz.state, atmviz.readout()]") == usual


def test_the_difference_is_the_second_minus_the_first(visit, compared, recording, other):
    said = visit(compared, "#v=1&l=3_13&q=3,6&cmp=diff").evaluate("atmviz.readout()")
    first, second = (offsets_at(each, 0, each.site("3_13"), (3, 6)) for each in (recording, other))
    assert [said["offsets"][axis] for axis in ("horizontal", "vertical")] == (second - first).tolist()


def test_a_region_is_the_mean_over_its_tokens(visit, look, recording):
    said = visit(look, "#v=1&l=3_1&q=1,1&r=16,16,63,63").evaluate("atmviz.readout()")
    exact = recording.read("map", "3_1")[0][1:4, 1:4].mean((0, 1)) / 64
    assert said["tokens"] == 9
    assert said["offsets"]["horizontal"] == pytest.approx(exact[0].tolist(), abs=1e-12)


def test_everything_is_reached_by_keys_alone(visit, compared):
    page = visit(compared, "#v=1&l=3_1&q=2,3")
    press, state = page.keyboard.press, lambda: page.evaluate("atmviz.state")

    def token():
        return page.evaluate("atmviz.readout().query")

    for key in ("ArrowDown", "ArrowRight", "ArrowRight"):
        press(key)
    assert token() == [3, 5]
    press("Shift+ArrowRight")
    assert token() == [3, 9]
    press("]")
    assert page.evaluate("atmviz.readout().layer") == "3_2"
    press(".")
    press(".")
    assert state()["column"] == 1
    press("h")
    assert state()["axis"] == "h"
    press("u")
    assert state()["unit"] == "px"
    press("m")
    assert state()["order"] == "mean"
    press("x")
    assert state()["model"] == 1
    press("/")
    assert page.evaluate("document.activeElement.id") == "find"
    page.keyboard.type("3_2")
    assert page.evaluate("atmviz.readout().layer") == "3_2"
    press("Enter")
    assert page.evaluate("document.activeElement.id") == "stage"
    press("Enter")
    press("ArrowLeft")
    press("1")
    assert token() == [3, 9]
    assert len(state()["pins"]) == 1
    press("Escape")
    assert state()["column"] is None
    press("Escape")
    assert state()["pins"] == []
    reached = set()
    for _ in range(40):
        press("Tab")
        reached.add(page.evaluate("document.activeElement.id || document.activeElement.textContent"))
    bar = {"image", "model", "other", "compare", "layer", "find", "axis", "unit", "order", "weight", "palette", "lines"}
    assert bar | {"stage", "cell"} <= reached
    page.locator("#cell").focus()
    before = page.locator("#cell").get_attribute("aria-label")
    press("ArrowDown")
    press("ArrowRight")
    press("Enter")
    page.wait_for_timeout(100)
    assert page.locator("#cell").get_attribute("aria-label") != before
    assert (state()["layer"], state()["column"] is None) == (1, False)
    press("e")
    assert page.evaluate("document.activeElement.dataset.export") == "svg"
    press("Escape")
    press("?")
    assert page.evaluate("document.getElementById('help').open")


def test_what_is_shown_is_said_to_screen_readers(visit, look):
    page = visit(look, "#v=1&l=3_1&q=2,3&u=px&c=4")
    wait(page)
    said = page.locator("#live").text_content()
    assert re.fullmatch(r"layer 3_1, column 4, channels 16 to 19: [\d.]+ px (left|right), [\d.]+ px (up|down)", said)
    page.keyboard.press("Escape")
    wait(page)
    assert page.locator("#live").text_content().startswith("layer 3_1, query row 2 column 3 of 6 × 10: mean |offset| ")


def test_the_query_follows_the_pointer_and_goes_back(visit, look):
    page = visit(look, "#v=1&l=3_1&q=2,3")
    box = box_of(page, "#stage svg")
    page.mouse.move(box["x"] + 0.53 * box["width"], box["y"] + 0.53 * box["height"])
    page.wait_for_timeout(250)
    assert page.evaluate("atmviz.readout().query") == [3, 5]
    page.mouse.move(5, 5)
    page.wait_for_timeout(250)
    assert page.evaluate("atmviz.readout().query") == [2, 3]


def test_gestures_pin_average_zoom_select_and_brush(visit, look):
    page = visit(look, "#v=1&l=3_1&q=2,3")
    box = box_of(page, "#stage svg")
    x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
    page.mouse.click(x, y)
    page.wait_for_timeout(250)
    assert len(page.evaluate("atmviz.state.pins")) == 1
    assert page.locator("#pins button").count() == 1
    page.mouse.down()
    page.mouse.move(x + 120, y + 60, steps=4)
    page.mouse.up()
    assert page.evaluate("atmviz.readout().tokens") > 1
    page.keyboard.press("Escape")
    page.mouse.wheel(0, -300)
    page.wait_for_timeout(250)
    assert float(page.locator("#stage svg").get_attribute("viewBox").split()[2]) < 512
    cells = box_of(page, "#cells")
    page.mouse.move(cells["x"] + 62, cells["y"] + 30)
    page.wait_for_timeout(300)
    assert page.locator("#focus").text_content().startswith("layer 1_1, column 0, channels 0 to 1: ")
    page.mouse.click(cells["x"] + 62, cells["y"] + 30)
    assert page.evaluate("[atmviz.state.layer, atmviz.state.column]") == [0, 0]
    page.mouse.down()
    page.mouse.move(cells["x"] + 102, cells["y"] + 70, steps=4)
    page.mouse.up()
    block = page.evaluate("atmviz.state.block")
    assert (block["axis"], block["layers"][0], block["columns"][0]) == ("h", 0, 0)
    assert block["layers"][1] > 0
    assert block["columns"][1] > 0
    page.keyboard.press("Escape")
    bars = box_of(page, "#bars svg")
    page.mouse.move(bars["x"] + 0.4 * bars["width"], bars["y"] + 60)
    page.mouse.down()
    page.mouse.move(bars["x"] + 0.9 * bars["width"], bars["y"] + 60, steps=4)
    page.mouse.up()
    brush = page.evaluate("atmviz.state.brush")
    assert brush["axis"] == "h"
    assert brush["low"] < brush["high"]


NAMES = [
    "</script><img src=x onerror=document.title='run'>.jpg",
    "\u202egpj.exe\u2066\u200f.jpg",
    "a/" * 2000 + "b" * 100,
    "<!--<script>${alert(1)}@header@'\"`\\u003c.jpg",
    "=cmd|' /C calc'!A0",
]


def test_names_of_files_are_shown_and_nothing_else(visit, recording, tmp_path):
    hostile = open_recording(recording.path)
    for names in (NAMES[:3], NAMES[2:]):
        hostile.attrs["images"] = names
        page = visit(make_page([hostile]).save(tmp_path / "hostile.html"))
        assert page.title().startswith("atmnet_nano")
        assert page.locator("img[onerror], #thumbs script").count() == 0
        shown = page.evaluate("atmviz.readout().image")
        assert shown == names[0].encode("unicode_escape").decode() if names[0][0] == "\u202e" else shown == names[0]
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    assert "'=cmd" in saved(visit(tmp_path / "hostile.html", "#v=1&i=2"), "csv").decode()


@pytest.mark.parametrize(("theme", "width"), [("light", 1440), ("dark", 1440), ("light", 900), ("dark", 390)])
def test_people_who_do_not_see_the_page_can_use_it(visit, compared, axe, theme, width):
    page = visit(compared, LINKS[0], viewport={"width": width, "height": 900}, color_scheme=theme)
    for element in ("export", "table"):
        page.locator(f"#{element}").evaluate("element => { element.open = true }")
    wait(page)
    page.evaluate(axe)
    found = page.evaluate("axe.run()")
    assert [(each["id"], [node["html"] for node in each["nodes"]]) for each in found["violations"]] == []
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")


def test_without_scripts_a_photograph_and_numbers_are_shown(chromium, look, recording):
    context = chromium.new_context(offline=True, java_script_enabled=False)
    page = context.new_page()
    page.goto(Path(look).as_uri())
    site = recording.site("3_18")
    exact = np.repeat(offsets_at(recording, 0, site, site.query), site.channels_per_offset, axis=1)
    sampled = sampling_map(exact, site.query, site.grid).samples
    assert "layer_3_18; blue circles: horizontally, orange diamonds: " in page.locator("noscript").text_content()
    for axis, shape in (("horizontal", "circle"), ("vertical", "path")):
        marks = page.locator(f'noscript {shape}[fill="{PALETTES["blue-orange"][axis]}"]')
        assert marks.count() == len(sampled[axis].counts)
    assert page.locator("noscript svg image").is_visible()
    assert not page.locator("#bar").is_visible()
    shown = page.locator("noscript tr").nth(18).text_content()
    assert shown == "3_14" + "".join(f"{mean:.2f}" for mean in recording.mean_abs_offset("3_14").mean(0))
    context.close()
