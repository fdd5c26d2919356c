"""A report on recordings: one page, the same bytes for the same recordings. Torch-free."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas

from atmviz.errors import SettingsError, count, require_type
from atmviz.events import QUIET, Events
from atmviz.explorer.page import Page
from atmviz.recording.store import Recording, open_recording
from atmviz.reports.captured import Missing, captured, letters_of, missing, provenance
from atmviz.reports.drawing import Shown, figures_of
from atmviz.reports.methods import methods_text
from atmviz.reports.page import assemble, claims_markup, escape, facts, figures_markup, missing_list
from atmviz.views.claims import weights_of

MAX_RECORDINGS = 8


class Report(Page):
    """A report; `numbers` are what the recordings hold, rows of claims, what is missing, and the methods."""


def report(
    recordings: "Recording | str | Path | Sequence[Recording | str | Path]", *, events: Events = QUIET
) -> Report:
    """Make a web page that says what recordings hold and what not, with figures, claims, provenance and methods.

    Args:
        recordings: An opened recording or its folder; or several, which are shown side by side, the first one compared
            with each other.
        events: Receives which figures are missing.

    Returns:
        The page, which `save` writes into a file and notebooks show.

    Raises:
        SettingsError: none or too many recordings.
        RecordingFormatError: a recording is missing or damaged.
    """
    opened = open_all(recordings)
    letters = letters_of(opened)
    made = list(figures_of(opened))
    shown = [each for each in made if isinstance(each, Shown)]
    lacking = [(letter, item) for letter, each in zip(letters, opened, strict=True) for item in missing(each)]
    lacking += [("", item) for item in made if isinstance(item, Missing)]
    for letter, item in lacking:
        events.message(f"{f'{letter}: ' if letter else ''}{item.question} {item.why}")
    methods = methods_text(opened)
    names = [weights_of(each) for each in opened]
    if len(opened) > 1:
        names = [f"{k}: {each.path.name} ({name})" for k, each, name in zip(letters, opened, names, strict=True)]
    sections = {
        "What was captured": facts("What was captured", names, [captured(each) for each in opened]),
        "What the recording cannot answer": missing_list(lacking),
        "Figures": figures_markup(shown),
        "Claims": _claims(shown),
        "Provenance": facts("Provenance", names, [provenance(each) for each in opened]),
        "Methods": "<p>To paste into a paper, in LaTeX; every number is from the recording.</p>"
        f"<pre>{escape_lines(methods)}</pre>",
    }
    if len(opened) > 1:
        sections = {name.replace("the recording", "the recordings"): markup for name, markup in sections.items()}
    datasets = ", ".join(dict.fromkeys(each.attrs["dataset"] for each in opened))
    sizes = [count(len(each), "image") for each in opened]
    about = f"{sizes[0]} each" if len(sizes) > len(set(sizes)) == 1 else "; ".join(sizes)
    page = assemble(f"{', '.join(names)} on {datasets}", f"Report on {about}", sections)
    return Report(page, _numbers(opened, shown, lacking, methods, len(page.encode())))


def open_all(recordings: "Recording | str | Path | Sequence[Recording | str | Path]") -> list[Recording]:
    """Open recordings, each once.

    Raises:
        SettingsError: none, the same twice, or more than a page can compare.
        RecordingFormatError: one is missing or damaged.
    """
    require_type(recordings, Recording | str | Path | Sequence, "recordings", "one, its folder, or several")
    several = [recordings] if isinstance(recordings, Recording | str | Path) else list(recordings)
    if not 1 <= len(several) <= MAX_RECORDINGS:
        raise SettingsError(f"got {count(len(several), 'recording')}, expected 1 to {MAX_RECORDINGS}")
    opened = [open_recording(each) for each in several]
    paths = [each.path.resolve() for each in opened]
    if twice := [path for k, path in enumerate(paths) if path in paths[:k]]:
        raise SettingsError(f"got {twice[0]} twice, expected each recording once: leave one out")
    return opened


def escape_lines(text: str) -> str:
    """Return a text of several lines as markup."""
    return "\n".join(escape(line) for line in text.split("\n"))


def _claims(shown: Sequence[Shown]) -> str:
    """Return one table of claims, of several recordings side by side."""
    printed = {
        each.letters: each.drawn.printed
        for each in shown
        if each.kind.name == "Claims" and each.drawn.printed is not None
    }
    if not printed:
        return "<p>No layer has offsets of which claims could be measured.</p>"
    note = (
        "<p>An effect is the estimate less its null, with a 95 % interval over images: an effect of 7 on growth is 8 "
        "times the untrained network. A verdict holds or fails by the sign of the effect, where p is below 0.05 after "
        "Holm's correction.</p>"
    )
    if len(printed) == 1:
        (data,) = printed.values()
        return note + claims_markup(data)
    keys = ["measure", "layer", "axis"]
    parts = [data.set_index(keys)[["effect", "verdict"]].add_prefix(f"{letter} ") for letter, data in printed.items()]
    joined = pandas.concat(parts, axis=1, sort=False).reset_index().fillna("")
    return note + claims_markup(joined)


def _numbers(
    recordings: Sequence[Recording],
    shown: Sequence[Shown],
    lacking: Sequence[tuple[str, Missing]],
    methods: str,
    size: int,
) -> dict[str, Any]:
    rows = {each.letters: each.drawn.numbers["rows"] for each in shown if each.kind.name == "Claims"}
    letters = letters_of(recordings)
    return {
        "recordings": [
            {**each.summary(), **captured(each), "provenance": provenance(each), "rows": rows.get(letter, [])}
            for letter, each in zip(letters, recordings, strict=True)
        ],
        "figures": [f"{each.kind.name} {each.letters}".strip() for each in shown],
        "missing": [
            {"recording": letter or None, "question": item.question, "why": item.why, "command": item.line or None}
            for letter, item in lacking
        ],
        "methods": methods,
        "bytes": size,
    }
