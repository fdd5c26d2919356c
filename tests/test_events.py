"""What a notebook shows of a long call."""

import sys
from types import SimpleNamespace

import pytest

from atmviz.errors import AtmvizError
from atmviz.events import NotebookLine, Progress


@pytest.fixture
def shown(monkeypatch):
    """What a notebook's output holds after each change; the outputs it has are counted by None."""
    texts = []

    def display(data, raw, display_id):
        texts.append(None)
        return SimpleNamespace(update=lambda data, raw: texts.append(data["text/plain"]))

    monkeypatch.setitem(sys.modules, "IPython", SimpleNamespace())
    monkeypatch.setitem(sys.modules, "IPython.display", SimpleNamespace(display=display))
    return texts


def test_progress_is_one_line_that_is_replaced_below_the_messages(shown):
    events = NotebookLine()
    events.message("atmnet_nano from a file")
    events.images(3, 5000)
    events.update(Progress(1, 2, 3, 40, {"loss": 2.3456789, "top1": 12.5}, 99.96))
    first = "atmnet_nano from a file"
    training = "epoch 1 of 2, update 3 of 40: loss 2.346, top1 12.5, 100.0 images/s"
    assert shown == [None, first, f"{first}\n3 of 5,000 images", f"{first}\n{training}"]


def test_without_a_notebook_it_says_so(monkeypatch):
    monkeypatch.setitem(sys.modules, "IPython.display", None)
    with pytest.raises(AtmvizError, match="got no IPython"):
        NotebookLine()
