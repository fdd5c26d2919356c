"""Progress bars of long calls."""

import pytest
import typer
from atmviz_cli.progress import ProgressConsole


def test_the_bar_counts_to_the_total_of_the_images_it_is_told_of(terminal):
    written = terminal(120)
    with ProgressConsole("looking", "reading") as events:
        for done, total in ((1, 3), (3, 3), (1, 7)):  # two splits of a dataset, one after the other
            events.images(done, total)
            events._bar.refresh()
    assert [shown in written.getvalue() for shown in ("1/3", "3/3", "1/7", "1/1")] == [True, True, True, False]


def interrupt(kept):
    with ProgressConsole("loading", "recording", kept) as events:
        events.images(1, 3)
        raise KeyboardInterrupt


def test_an_interrupt_says_what_is_kept_and_exits_as_shells_expect(capsys):
    with pytest.raises(typer.Exit) as stopped:
        interrupt("images are kept")
    assert stopped.value.exit_code == 130
    assert capsys.readouterr().err == "interrupted: images are kept; the same command resumes\n"


def test_an_interrupt_of_what_keeps_nothing_stays_one():
    with pytest.raises(KeyboardInterrupt):
        interrupt("")
