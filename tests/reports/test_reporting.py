"""Pages about recordings: what they say, that nothing in them acts, and that their bytes repeat."""

import base64
import re
import shutil
from html.parser import HTMLParser

import numpy as np
import pytest

import atmviz
from atmviz.errors import RecordingFormatError, SettingsError
from atmviz.events import Events
from atmviz.explorer.page import Page
from atmviz.recording.store import open_recording
from atmviz.statistics.measures import DEFINITIONS

HOSTILE = '"><script>alert(1)</script><img src=x onerror=alert(1)>'


class Heard(Events):
    def __init__(self):
        self.messages = []

    def message(self, text):
        self.messages.append(text)


class Read(HTMLParser):
    """The tags and texts of a page."""

    def __init__(self, page):
        super().__init__()
        self.tags, self.texts = [], []
        self.feed(page.html)
        self.text = " ".join(" ".join(self.texts).split())

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data):
        self.texts.append(data)


@pytest.fixture(scope="module")
def page(labeled_scenes):
    return atmviz.report(labeled_scenes)


def offsets(images, seed=0):
    return {"1_1": np.random.default_rng(seed).normal(size=(images, 8, 12, 2, 3)).astype(np.float32)}


def test_a_report_says_what_was_captured_and_whence(page, labeled_scenes):
    text, recording = Read(page).text, open_recording(labeled_scenes)
    assert "atmnet_nano-8cf39f on shapes" in text
    for said in ("images 64", "images that failed none", "objects objects of shapes", "128×128 px"):
        assert said in text
    assert recording.attrs["checkpoint"]["sha256"] in text
    assert f"torch {recording.attrs['versions']['torch']}" in text
    assert "checkpoint atmnet_nano.shapes.safetensors" in text
    assert "precision fp32" in text
    assert str(labeled_scenes.parent) not in page.html  # no folders of this machine
    assert page.numbers["bytes"] == len(page.html.encode())


def test_the_claims_table_has_the_numbers_of_the_recording(page, labeled_scenes):
    text = Read(page).text
    table = atmviz.claims_table(labeled_scenes)
    for row in table[table.measure == "mirror_gap"].itertuples():
        effect = f"{row.effect:.2f} [{row.effect_low:.2f}, {row.effect_high:.2f}] {row.n_images}"
        assert f"{row.layer} {row.axis} {row.estimate:.2f} {row.null:.2f} {effect}".replace("-0.00", "0.00") in text
    (held,) = page.numbers["recordings"]
    assert {row["measure"] for row in held["rows"]} == set(DEFINITIONS)


def test_the_same_recordings_give_the_same_bytes_and_ask_for_nothing(page, labeled_scenes):
    assert atmviz.report(str(labeled_scenes)).html == page.html
    read = Read(page)
    assert {tag for tag, _ in read.tags} & {"script", "link", "iframe", "object", "base", "form"} == set()
    assert all(attrs["src"].startswith("data:image/svg+xml;base64,") for tag, attrs in read.tags if tag == "img")
    assert all(attrs["alt"] for tag, attrs in read.tags if tag == "img")
    (policy,) = [a["content"] for t, a in read.tags if a.get("http-equiv") == "Content-Security-Policy"]
    assert policy.startswith("default-src 'none'; img-src data:; style-src 'sha256-")
    assert "style=" not in re.sub("<style>.*</style>", "", page.html, flags=re.DOTALL)  # the policy would drop it


def test_figures_are_those_that_the_recording_allows_with_n(page, labeled_scenes):
    assert page.numbers["figures"] == ["Histograms", "Reach against depth", "Claims"]
    read = Read(page)
    assert read.text.count("N = 64 images") == 3 * 1
    pictures = [base64.b64decode(a["src"].partition(",")[2]) for t, a in read.tags if t == "img"]
    assert len(pictures) == 3
    assert all(picture.lstrip().startswith(b"<?xml") and b"<text" not in picture for picture in pictures)


def test_what_is_missing_comes_with_the_command_that_records_it(page, write_recording, tmp_path, labeled_scenes):
    (command,) = [m["command"] for m in page.numbers["missing"] if "content" in m["question"]]
    assert command == f"atmviz record --like {labeled_scenes.name} --keep moments,positions --out more"
    heard = Heard()
    made = write_recording(tmp_path / "r", offsets(3))
    bare = atmviz.report(made, events=heard)
    said = {item["question"]: item for item in bare.numbers["missing"]}
    assert any("it holds 3" in item["why"] for item in said.values())
    labels = next(item for question, item in said.items() if "segment" in question)
    assert labels["command"].startswith("atmviz record IMAGES --labels MASKS --size 32x48 -c CHECKPOINT")
    assert bare.numbers["figures"] == ["Histograms", "Claims"]
    assert len(heard.messages) == len(said)


def test_names_of_any_kind_are_text(write_recording, tmp_path):
    names = [f"{HOSTILE}\x1b[31m{k}.png" for k in range(2)]
    made = write_recording(
        tmp_path / "a", offsets(2), names, dataset=HOSTILE, labels=HOSTILE, model=f"{HOSTILE}(atmnet_nano)"
    )
    page = atmviz.report([made, write_recording(tmp_path / "b", offsets(2, 1), names)])
    read = Read(page)
    assert {tag for tag, _ in read.tags} & {"script", "iframe"} == set()
    assert not any(name.startswith("on") for _, attrs in read.tags for name in attrs)
    assert "<script>alert(1)</script>" in read.text  # shown as it is
    assert "\x1b" not in page.html


def test_several_recordings_are_shown_side_by_side_and_compared(write_recording, tmp_path):
    made = [write_recording(tmp_path / name, offsets(9, seed)) for seed, name in enumerate("ab")]
    page = atmviz.report(made)
    assert page.numbers["figures"][:4] == ["Histograms A", "Histograms B", "Claims A", "Claims B"]
    assert page.numbers["figures"][4:] == ["Comparison A, B", "Differences of claims A, B"]
    assert [each["images"] for each in page.numbers["recordings"]] == ["9", "9"]
    assert "A: a (atmnet_nano-000000), B: b (atmnet_nano-000000) on made Report on 9 images each" in Read(page).text
    assert "A effect" in Read(page).text
    assert "B verdict" in Read(page).text


def test_recordings_of_other_images_and_layers_say_why_they_are_not_compared(write_recording, tmp_path):
    first = write_recording(tmp_path / "a", offsets(2))
    second = write_recording(tmp_path / "b", {"2_1": offsets(2)["1_1"]}, ["x.png", "y.png"])
    questions = [item["question"] for item in atmviz.report([first, second]).numbers["missing"]]
    assert "Comparison of A, B" in questions
    assert "Differences of claims of A, B" in questions


def test_a_recording_that_has_only_begun_is_reported(write_recording, tmp_path):
    page = atmviz.report(write_recording(tmp_path / "r", offsets(65), chunks=[]))
    assert page.numbers["figures"] == []
    assert "0 images of 65 are recorded so far" in page.numbers["missing"][0]["why"]


def test_the_page_is_saved_shown_in_notebooks_and_replaces_pages_alone(page, tmp_path):
    assert page.save(tmp_path / "x.html").read_text("utf-8") == page.html
    assert 'title="atmviz report"' in page._repr_html_()
    assert repr(page) == f"<Report of {page.numbers['bytes']:,} bytes; save(path) writes it>"
    with pytest.raises(SettingsError, match=r"is no page of the explorer, which .*; a report says it in a browser"):
        atmviz.inspect(tmp_path / "x.html")
    page.save(tmp_path / "x.html")
    (tmp_path / "mine.html").write_text("mine")
    with pytest.raises(SettingsError, match="is no page of atmviz"):
        page.save(tmp_path / "mine.html")


def test_what_is_no_recording_is_refused(tmp_path):
    with pytest.raises(RecordingFormatError, match="no recording in"):
        atmviz.report(tmp_path)
    with pytest.raises(SettingsError, match="got 0 recordings, expected 1 to 8"):
        atmviz.report([])


def test_a_recording_is_not_compared_with_itself(write_recording, tmp_path):
    made = write_recording(tmp_path / "r", offsets(9)).path
    with pytest.raises(SettingsError, match="twice, expected each recording once"):
        atmviz.report([made, tmp_path / "." / "r"])


@pytest.mark.parametrize("recordings", [3, None, 1.5, object()])
def test_what_is_no_recording_is_refused_in_one_line(recordings):
    with pytest.raises(SettingsError, match="as recordings, expected one, its folder, or several"):
        atmviz.report(recordings)


def test_no_folder_is_told_where_an_array_is_lost(write_recording, tmp_path):
    made = write_recording(tmp_path / "here" / "r", offsets(9)).path
    shutil.rmtree(made / "offset_1_1")
    page = atmviz.report(made)
    assert any("array 'offset_1_1' in r is damaged (No such file" in item["why"] for item in page.numbers["missing"])
    assert "here" not in page.html.replace("where", "").replace("there", "")


@pytest.mark.parametrize("out", [3, None, b"a.html"])
def test_a_page_is_saved_under_a_path_alone(out):
    with pytest.raises(SettingsError, match="as out, expected a file ending in"):
        Page("", {}).save(out)
