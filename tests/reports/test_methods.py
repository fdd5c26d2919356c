"""The paragraph on methods: every number is the recording's, and LaTeX takes it."""

import re
from pathlib import Path

import numpy as np

import atmviz
from atmviz.paper import BIBTEX
from atmviz.recording.store import open_recording
from atmviz.reports.methods import FORMULAS, methods_text
from atmviz.statistics.measures import DEFINITIONS
from atmviz.views.claims import PRINTED

ROOT = Path(__file__).parents[2]


def test_every_measure_that_decides_a_claim_has_formula_and_null():
    assert set(FORMULAS) == set(PRINTED) == {name for name, each in DEFINITIONS.items() if each.tested}


def test_numbers_are_those_of_the_recording(labeled_scenes):
    text, recording = methods_text([open_recording(labeled_scenes)]), open_recording(labeled_scenes)
    objects = atmviz.object_table(recording)
    number = len(objects[objects.layer == recording.layers[0]])
    assert f"$N = 64$ images of shapes, with {number} objects" in text
    assert recording.attrs["checkpoint"]["sha256"][:16] in text
    for name in ("torch", "timm"):
        assert f"{name} {recording.attrs['versions'][name]}" in text
    site = recording.site("1_1")
    assert f"{32 * 32 * site.num_offsets:,} (32$\\times$32 tokens of 4 px) in 1\\_1" in text
    for measure in PRINTED:
        assert f"\\texttt{{{DEFINITIONS[measure].id}}}".replace("_", r"\_") in text
    assert "px (scenes are drawn at this size), computed in fp32." in text
    assert "2,000 bootstrap draws" in text


def test_only_what_the_recording_holds_is_defined(write_recording, tmp_path):
    field = {"1_1": np.zeros((2, 8, 8, 2, 3), np.float32)}
    text = methods_text([write_recording(tmp_path / "r", field, dataset="100 %_of\n$x$ \\input{secret}")])
    assert "growth/1" in text
    assert not any(name in text for name in ("mirror", "quantiles", "variance", "objects", "Wasserstein"))
    assert r"of 100 \%\_of\textbackslash{}n\$x\$ \textbackslash{}input\{secret\}," in text
    assert re.findall(r"(?<!\\)%", text.split("\n", 1)[1]) == []  # nothing becomes a comment


def test_references_are_those_of_the_readme_and_of_the_definitions(labeled_scenes, write_recording, tmp_path):
    assert BIBTEX in (ROOT / "README.md").read_text("utf-8")
    field = {"1_1": np.zeros((2, 8, 8, 2, 3), np.float32)}
    pages = "".join(path.read_text("utf-8") for path in ROOT.glob("docs/definitions*/**/*.md"))
    pages += (ROOT / "docs/definitions.md").read_text("utf-8")
    opened = [open_recording(labeled_scenes), write_recording(tmp_path / "r", field)]
    for recordings in (opened, opened[1:]):
        text, _, references = methods_text(recordings).partition("\n\n")
        cited = set(re.findall(r"\\cite\{(\w+)\}", text))
        assert cited == set(re.findall(r"@\w+\{(\w+),", references))
        assert {"wei2023active", "atmviz", "efron1993bootstrap", "holm1979simple", "kendall1938new"} <= cited
        assert ("vallender1974calculation" in cited) == (len(recordings) > 1)
        assert references.startswith(BIBTEX)
        for entry in re.findall(r"^@.*?^\}$", references.removeprefix(BIBTEX), re.M | re.S):
            assert entry in pages


def test_paragraphs_of_several_recordings_have_the_letters_of_their_figures(write_recording, tmp_path):
    field = {"1_1": np.zeros((2, 8, 8, 2, 3), np.float32)}
    text = methods_text([write_recording(tmp_path / name, field) for name in "ab"])
    assert text.count("(A; trained,") == text.count("(B; trained,") == 1
