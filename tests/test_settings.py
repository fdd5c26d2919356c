"""Settings check themselves once, whoever makes them, and keywords that are none name the nearest."""

import inspect
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np
import pytest

import atmviz
from atmviz.choices import DataChoice, ModelChoice
from atmviz.errors import AtmvizError, RecipeError, SettingsError
from atmviz.recording.settings import RecordingSettings
from atmviz.settings import Settings, setting, split_settings, with_keywords
from atmviz.training.evaluation_settings import EvaluationSettings
from atmviz.training.recipe import Recipe
from atmviz.views.settings import HistogramSettings, OverlaySettings


def two_or_more(value):
    if len(value) < 2:
        raise SettingsError("got too few parts")
    return tuple(value)


@dataclass(frozen=True)
class Toy(Settings):
    number: int = setting(1, "A number.", "Toys", 1, 5)
    rate: float | None = setting(None, "A rate.", "Toys", 0)
    color: Literal["red", "blue"] | None = setting(None, "A color.", "Toys")
    loud: bool = setting(False, "Loud.", "Toys")
    name: str = setting("teddy", "A name.", "Toys")
    folder: str | Path | None = setting(None, "A folder.", "Toys")  # noqa: RUF009
    parts: tuple[str, ...] = setting(("arm", "leg"), "Parts.", "Toys", read=two_or_more)


@pytest.mark.parametrize(
    ("values", "read"),
    [
        ({"number": np.int64(3)}, 3),
        ({"rate": 2}, 2.0),
        ({"rate": "1e-3"}, 1e-3),
        ({"rate": None}, None),
        ({"color": "red"}, "red"),
        ({"folder": Path("here")}, Path("here")),
        ({"parts": ["arm", "ear"]}, ("arm", "ear")),
    ],
)
def test_a_value_is_converted_to_the_type_of_its_field(values, read):
    (name,) = values
    toy = Toy(**values)
    assert getattr(toy, name) == getattr(replace(toy), name) == read
    assert type(getattr(toy, name)) is type(read)


@pytest.mark.parametrize(
    ("values", "says"),
    [
        ({"number": 6}, "got number: 6, expected 1 or more, at most 5"),
        ({"number": 2.5}, "got number: 2.5, expected a whole number"),
        ({"number": "2"}, "got number: '2', expected a whole number"),
        ({"number": True}, "got number: True, expected a whole number"),
        ({"number": None}, "got number: None, expected a whole number"),
        ({"rate": float("nan")}, "got rate: nan, expected a finite number"),
        ({"rate": -1}, "got rate: -1, expected 0 or more"),
        ({"color": "green"}, "got color: 'green', expected red or blue"),
        ({"color": ["red"]}, "got color: ['red'], expected red or blue"),
        ({"loud": 1}, "got loud: 1, expected true or false"),
        ({"name": ""}, "got name: '', expected text"),
        ({"name": Toy()}, "got name: Toy, expected text"),
        ({"folder": 3}, "got folder: 3, expected text or a path"),
        ({"parts": ["arm"]}, "got too few parts"),
    ],
)
def test_other_values_are_refused_in_one_line(values, says):
    with pytest.raises(SettingsError) as error:
        Toy(**values)
    assert str(error.value) == says


@pytest.mark.parametrize(
    ("kind", "values", "error"),
    [
        (ModelChoice, {"weights": "best"}, SettingsError),
        (DataChoice, {"limit": 0}, SettingsError),
        (RecordingSettings, {"shard": 2}, SettingsError),
        (RecordingSettings, {"query": ["center"]}, AtmvizError),
        (OverlaySettings, {"queries": ()}, SettingsError),
        (HistogramSettings, {"figure": "7"}, SettingsError),
        (HistogramSettings, {"figure": [3, 6]}, SettingsError),
        (EvaluationSettings, {"limit": 2.5}, SettingsError),
        (Recipe, {"epochs": 0}, RecipeError),
        (Recipe, {"compile": "yes"}, RecipeError),
    ],
)
def test_every_kind_of_settings_checks_itself_whoever_makes_it(kind, values, error):
    for make in (kind, lambda **values: split_settings(values, kind), lambda **values: replace(kind(), **values)):
        with pytest.raises(error, match=r"^got "):
            make(**values)


@pytest.mark.parametrize(
    ("call", "wrong", "nearest"),
    [
        (atmviz.overlay, "layer", "layers"),
        (atmviz.overlay, "query", "queries"),
        (atmviz.overlay, "images", "image"),
        (atmviz.histogram, "layer", "layers"),
        (atmviz.histogram, "limits", "limit"),
        (atmviz.record, "queries", "query"),
        (atmviz.record, "batch", "batch_size"),
        (atmviz.evaluate, "limits", "limit"),
    ],
)
def test_an_unknown_keyword_names_the_nearest(call, wrong, nearest):
    with pytest.raises(TypeError, match=rf"unexpected keyword argument '{wrong}'.*; did you mean {nearest}\?$"):
        call(**{wrong: 1})


def test_a_keyword_that_several_kinds_have_is_shown_once_and_goes_to_the_first():
    @with_keywords(HistogramSettings, RecordingSettings, without=("query",))
    def call(source, **settings):
        return split_settings(settings, HistogramSettings, RecordingSettings)

    shown = inspect.signature(call).parameters
    assert list(shown)[:2] == ["source", "layers"]
    assert shown["layers"].default == HistogramSettings().layers
    assert "query" not in shown
    drawn, recorded = call("x", layers="3_18", query="1:2")
    assert (drawn.layers, recorded.layers, recorded.query) == (("3_18",), (), "1:2")


def test_the_signatures_of_the_library_show_names_in_place_of_objects():
    for call in (atmviz.record, atmviz.histogram, atmviz.overlay, atmviz.evaluate, atmviz.load_model, atmviz.train):
        assert " object at 0x" not in str(inspect.signature(call))
    shown = str(inspect.signature(atmviz.record))
    assert "events: atmviz.events.Events = QUIET" in shown
    assert "= (<Quantity offset>, <Quantity mean_abs_offset>, " in shown
