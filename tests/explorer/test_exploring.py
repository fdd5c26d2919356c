"""Pages: what they hold, that they ask for nothing, and that they never replace a file of another kind."""

import base64
import hashlib
import html
import json
import re
import shutil
from collections.abc import Mapping

import numpy as np
import pytest

import atmviz
from atmviz.errors import AtmvizError, SettingsError
from atmviz.events import Events
from atmviz.explorer.exploring import make_page
from atmviz.explorer.page import Explorer, assemble, require_page
from atmviz.explorer.settings import ExplorerSettings, parse_bytes
from atmviz.recording.settings import RecordingSettings
from atmviz.recording.store import open_recording


class Said(Events):
    def __init__(self):
        self.texts = []

    def message(self, text):
        self.texts.append(text)


@pytest.fixture(scope="session")
def page(recording):
    return make_page([recording])


def header_of(page):
    return json.loads(re.search(r'<script type="application/json" id="header">(.*?)</script>', page.html)[1])


def test_a_page_holds_all_images_and_layers_and_says_so(page, recording):
    header = header_of(page)
    assert [image["name"] for image in header["images"]] == recording.images
    assert [site["name"] for site in header["sites"]] == page.numbers["layers"] == recording.layers
    assert page.numbers["bytes"] == len(page.html.encode())
    assert page.numbers["left_out"] == header["reduced"] == []
    assert len(re.findall(r'<script type="application/gzip" id="m0i\d">', page.html)) == len(recording)
    assert header["sources"]["3_13"]["counts"] == [[side.tolist() for side in recording.counts("3_18")]]


def test_a_page_asks_for_nothing_and_runs_only_its_own_script_and_style(page):
    policy = html.unescape(re.search(r'Content-Security-Policy" content="(.*?)"', page.html)[1])
    assert policy.startswith("default-src 'none'; img-src data: blob:;")
    for name, tag in (("script", "script"), ("style", "style")):
        (content,) = re.findall(rf"<{tag}>(.*?)</{tag}>", page.html, re.DOTALL)
        digest = base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()
        assert f"{name}-src 'sha256-{digest}'" in policy
    assert "unsafe" not in policy
    assert re.findall(r"https?://(?!www\.w3\.org/2000/svg)", page.html) == []
    assert not re.search(r"""\s(?:on\w+|style)=["']""", page.html)


def test_the_script_is_small(page):
    (script,) = re.findall(r"<script>(.*?)</script>", page.html, re.DOTALL)
    assert len(script.encode()) < 40_000


def test_the_same_recording_gives_the_same_bytes(page, recording):
    assert make_page([open_recording(recording.path)]).html == page.html


def test_texts_of_the_header_cannot_leave_it(page):
    name = "</script><script>alert(1)</script><!-- @offsets@"
    header = header_of(page) | {"dataset": name, "reduced": [name], "command": name}
    header["images"] = [header["images"][0] | {"name": name, "title": name}]
    page = assemble(header, [["data"]], "")
    assert page.count("</script") == page.count("<script") == 3
    assert "<script>alert" not in page
    assert header_of(Explorer(page, {}))["images"][0]["name"] == name


@pytest.mark.parametrize("spare", [0, -1])
def test_a_page_that_must_be_small_holds_less_and_says_it(page, recording, spare):
    said, limit = Said(), page.numbers["bytes"] + spare
    small = make_page([recording], ExplorerSettings(max_size=limit), said)
    left_out = small.numbers["left_out"]
    assert small.numbers["bytes"] <= limit
    assert len(left_out) == (spare < 0)
    steps = ["x-delta coding", "1/16 token"][: 1 + len(left_out)]
    assert small.numbers["manifest"] == {"unit": f"1/{16 if spare else 64} token", "steps": steps}
    assert header_of(small)["about"]["manifest"] == small.numbers["manifest"]
    assert said.texts == [f"the page holds less, to stay below {limit:,} bytes: {text}" for text in left_out]
    assert ('<p id="reduced">To stay small, this page holds less: offsets in steps of 1/16' in small.html) == (
        spare < 0
    )


def test_all_that_is_left_out_is_said_in_one_message(recording):
    said, limit = Said(), 430_000
    small = make_page([recording], ExplorerSettings(max_size=limit), said)
    assert small.numbers["manifest"]["steps"] == ["x-delta coding", "1/16 token", "few layers"]
    assert said.texts == [f"the page holds less, to stay below {limit:,} bytes: {'; '.join(small.numbers['left_out'])}"]


def test_a_page_that_cannot_be_that_small_is_refused(recording):
    with pytest.raises(
        SettingsError,
        match="of 60,000 bytes, which the page exceeds in its least detail: show fewer",
    ):
        make_page([recording], ExplorerSettings(max_size="60kB"))


@pytest.mark.parametrize("size", ["100MB", "0", "big", "-1MB", "1GB", 0, None])
def test_sizes_are_numbers_of_bytes_up_to_64_mb(size):
    with pytest.raises(SettingsError, match="expected a size like 500kB or 10MB, at most 64MB"):
        parse_bytes(size)


def test_what_is_shared_safely_has_no_photographs_names_or_paths(recording):
    page = make_page([recording], ExplorerSettings(share_safe=True), command=f"atmviz explore {recording.path}")
    header = header_of(page)
    assert [image["photo"] for image in header["images"]] == [None] * 3
    assert [image["name"] for image in header["images"]] == ["image 1", "image 2", "image 3"]
    path = recording.attrs["image_root"]
    assert [
        text for text in ("astronaut", "cat.jpg", path, "image/jpeg", str(recording.path)) if text in page.html
    ] == []
    assert header["images"][0]["command"] == "atmviz overlay IMAGE --size 96x160 --fit crop"
    assert header["placeholders"].startswith("put in IMAGE and CHECKPOINT")


@pytest.mark.parametrize("share_safe", [False, True])
def test_a_recording_s_photographs_are_read_only_with_a_word_on_from_where(recording, share_safe):
    atmviz.explore(recording, max_images=1, share_safe=share_safe, events=(said := Said()))
    line = f"photographs are read from {recording.attrs['image_root']}, which the recording names"
    assert (line in said.texts) != share_safe


def test_photographs_that_are_gone_are_left_out_and_named(recording, monkeypatch):
    gone, said = open_recording(recording.path), Said()
    gone.attrs["image_root"] = "/nowhere"
    page = make_page([gone], events=said)
    assert header_of(page)["images"][0]["photo"] is None
    assert said.texts[0].startswith("the page shows no photographs: 3 of 3 images of")


def test_only_so_many_images_are_shown(recording):
    said = Said()
    page = make_page([recording], ExplorerSettings(max_images=2), said)
    assert page.numbers["images"] == 2
    assert said.texts == ["the page shows 2 of 3 images"]


def test_chosen_layers_alone_are_shown(recording):
    assert make_page([recording], ExplorerSettings(layers="3_1,3_18")).numbers["layers"] == ["3_1", "3_18"]


def test_shares_of_all_tokens_have_an_interval_where_the_page_holds_all_of_8_images(labeled, page):
    whole = header_of(make_page([labeled]))["sources"]["3_13"]
    for counts, (low, high) in zip(whole["counts"][0], whole["interval"][0], strict=True):
        shares = np.array(counts) / sum(counts)
        assert (np.array(low) <= shares + 1e-5).all()
        assert (shares - 1e-5 <= np.array(high)).all()
        assert (np.array(low) < np.array(high)).any()
    part = make_page([labeled], ExplorerSettings(max_images=7))
    assert (
        header_of(part)["sources"]["3_13"]["interval"] == header_of(page)["sources"]["3_13"]["interval"] == [[[], []]]
    )
    said = [" Lines: 95 % interval over images." in each.html for each in (make_page([labeled]), part, page)]
    assert said == [True, False, False]


def test_two_models_are_on_one_page(recording, other):
    header = header_of(make_page([recording, other]))
    assert [model["trained"] for model in header["models"]] == [True, False]
    assert header["models"][1]["options"] == "-c atmnet_nano --seed 0"
    assert [len(source["counts"]) for source in header["sources"].values()] == [2] * len(header["sources"])


def test_two_weights_of_one_network_are_named_by_their_files_which_share_safe_leaves_out(recording, tmp_path):
    shutil.copytree(recording.path, tmp_path / "tuned")
    tuned = atmviz.open_recording(tmp_path / "tuned")
    tuned.attrs["checkpoint_path"] = "/home/someone/runs/tuned/best.safetensors"
    safe, named = (
        [model["name"] for model in header_of(make_page([recording, tuned], ExplorerSettings(share_safe=on)))["models"]]
        for on in (True, False)
    )
    assert safe == ["atmnet_nano-8cf39f"] * 2
    assert named == ["atmnet_nano.shapes (atmnet_nano-8cf39f)", "best (atmnet_nano-8cf39f)"]


def test_a_recording_is_not_compared_with_itself(recording):
    with pytest.raises(SettingsError, match=f"got {recording.path} twice, expected two recordings: repeat it with"):
        atmviz.explore(recording, other=recording.path)


def test_a_page_says_what_it_is_and_is_no_source(recording, other, tmp_path):
    page = make_page([recording, other], command="atmviz explore 'a b' --and c").save(tmp_path / "look.html")
    said = atmviz.inspect(page)
    assert (said["kind"], said["made_by"], said["command"]) == (
        "page",
        "atmviz explore",
        "atmviz explore 'a b' --and c",
    )
    assert said["models"] == ["atmnet_nano-8cf39f", "atmnet_nano (untrained)"]
    assert said["sha256"] == [each.attrs["checkpoint"]["sha256"] for each in (recording, other)]
    assert (said["dataset"], said["images"], said["layers"]) == (recording.attrs["dataset"], 3, recording.layers)
    for source in ({"source": page}, {"source": [str(page)]}, {"source": recording, "other": page}):
        with pytest.raises(SettingsError, match=r"look.html, which is a page of the explorer, expected a recording or"):
            atmviz.explore(**source)
    (tmp_path / "mine.html").write_text("<!doctype html><title>mine</title>")
    page.write_text(page.read_text(encoding="utf-8")[:5000], encoding="utf-8")
    for path in (tmp_path / "mine.html", page):
        with pytest.raises(SettingsError, match="is no page of the explorer, which says what it holds"):
            atmviz.inspect(path)


def test_a_recording_without_maps_is_refused(record, photographs):
    without = record(photographs, settings=RecordingSettings(workers=0))
    with pytest.raises(SettingsError, match="keeps no maps: record its images again, and keep maps"):
        atmviz.explore(without)


def test_a_recording_is_not_compared_with_weights(recording):
    with pytest.raises(SettingsError, match="expected another recording: repeat the first one with these weights"):
        atmviz.explore(recording, other="atmnet_nano")


def test_images_are_recorded_on_the_way_and_compared_with_other_weights(photographs, tmp_path, monkeypatch):
    monkeypatch.setenv("ATMVIZ_CACHE", str(tmp_path))
    page = atmviz.explore(photographs, other="atmnet_nano", size=64, limit=1, workers=0)
    assert isinstance(page.numbers, Mapping)
    assert page.numbers["images"] == 1
    assert [model.split("-")[0] for model in page.numbers["models"]] == ["atmnet_nano", "atmnet_nano"]


def test_a_notebook_shows_the_page_in_a_frame(page):
    assert repr(page) == f"<Explorer of {page.numbers['bytes']:,} bytes; save(path) writes it>"
    shown = page._repr_html_()
    (inner,) = re.findall(r'^<iframe srcdoc="([^"]*)"[^<>]*></iframe>$', shown)
    assert html.unescape(inner) == page.html


def test_a_page_replaces_pages_alone(page, tmp_path):
    target = tmp_path / "new" / "look.html"
    assert page.save(target) == target
    assert page.save(target).read_text(encoding="utf-8") == page.html
    assert [path.name for path in target.parent.iterdir()] == ["look.html"]
    mine = tmp_path / "mine.html"
    mine.write_text("<!doctype html><title>mine</title>")
    for path, says in (
        (mine, "is no page of atmviz"),
        (tmp_path / "look.png", "expected a file ending in .html"),
    ):
        with pytest.raises(SettingsError, match=says):
            page.save(path)
    assert mine.read_text() == "<!doctype html><title>mine</title>"
    with pytest.raises(AtmvizError, match="is no folder"):
        require_page(mine / "look.html")
