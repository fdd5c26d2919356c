"""Layer labels, the layers that share offsets, and the patterns that select layers."""

import pytest

from atmviz.errors import LayerNotFoundError
from atmviz.layers import (
    LayerId,
    describe_layers,
    find_layer,
    is_offset_source,
    offset_sources,
    select_layers,
    title_of,
)
from atmviz.variants import VARIANTS

LAYERS = [str(layer) for layer in offset_sources((2, 3, 18, 2), interval=6)]


@pytest.mark.parametrize("text", ["3_18", "layer_3_18", "3.18", "stages.2.blocks.17", "stages.2.blocks.17.token_mixer"])
def test_labels_are_read(text):
    assert LayerId.parse(text) == LayerId(stage=3, index=18)


@pytest.mark.parametrize(
    "text", ["", "3", "3_", "_18", "3-18", "3_18_1", "x3_18", "3_last", "3_*", "stages.2", "stages.2.blocks.17.mlp"]
)
def test_other_text_is_no_label(text):
    with pytest.raises(ValueError, match="no layer label"):
        LayerId.parse(text)


@pytest.mark.parametrize("layer", [LayerId(1, 1), LayerId(3, 18), LayerId(1, 0, "fpn_c"), LayerId(4, 0, "fpn_p")])
def test_labels_round_trip(layer):
    assert LayerId.parse(str(layer)) == LayerId.parse(title_of(str(layer))) == layer


def test_labels_count_from_one_and_module_paths_from_zero():
    assert str(LayerId(3, 18)) == "3_18"
    assert LayerId.parse("stages.2.blocks.17.token_mixer") == LayerId(3, 18)
    assert LayerId.parse("backbone.body.stages.2.blocks.17") == LayerId(3, 18)


def test_units_of_a_neck_are_named_by_their_level_and_selected_like_layers():
    neck = [str(LayerId(stage, 0, unit)) for unit in ("fpn_c", "fpn_p") for stage in (1, 2)]
    available = ["2_1", "2_2", *neck]
    assert neck == ["fpn_c2", "fpn_c3", "fpn_p2", "fpn_p3"]
    assert select_layers(["fpn_*"], available) == neck
    assert select_layers(["fpn_p3", "2_last"], available) == ["fpn_p3", "2_2"]
    assert describe_layers(available) == "2_1 to 2_2, fpn_c2 to fpn_c3, fpn_p2 to fpn_p3"


@pytest.mark.parametrize(
    ("depth", "interval", "sources"),
    [(2, 2, [0]), (3, 2, [0]), (4, 2, [0, 2]), (18, 6, [0, 6, 12]), (7, 6, [0]), (8, 6, [0, 6]), (3, 10, [0])],
)
def test_a_stage_generates_every_k_layers_but_never_in_its_last(depth, interval, sources):
    assert [block for block in range(depth) if is_offset_source(block, depth, interval)] == sources


@pytest.mark.parametrize(
    ("name", "generators", "layers"),
    [
        ("atmnet_xtiny", 5, 10),
        ("atmnet_tiny", 8, 18),
        ("atmnet_small", 6, 28),
        ("atmnet_base", 9, 41),
        ("atmnet_large", 7, 34),
        ("atmnet_nano", 6, 24),
    ],
)
def test_variants_have_the_generators_of_the_released_networks(name, generators, layers):
    sources = offset_sources(VARIANTS[name].depths, VARIANTS[name].offset_interval)
    assert len(sources) == layers
    assert sum(layer == source for layer, source in sources.items()) == generators


@pytest.mark.parametrize("name", VARIANTS)
def test_layers_use_the_latest_offsets_of_their_own_stage(name):
    variant = VARIANTS[name]
    sources = offset_sources(variant.depths, variant.offset_interval)
    assert list(sources) == [LayerId(i + 1, j + 1) for i, depth in enumerate(variant.depths) for j in range(depth)]
    for layer, source in sources.items():
        assert sources[source] == source
        assert source.stage == layer.stage
        between = [sources[LayerId(layer.stage, j)] for j in range(source.index, layer.index + 1)]
        assert set(between) == {source}


@pytest.mark.parametrize("name", ["atmnet_nano", "atmnet_small", "atmnet_base", "atmnet_large"])
def test_layer_3_18_uses_the_offsets_of_3_13(name):
    sources = offset_sources(VARIANTS[name].depths, VARIANTS[name].offset_interval)
    assert sources[LayerId(3, 18)] == LayerId(3, 13)


@pytest.mark.parametrize(
    ("patterns", "labels"),
    [
        (["3_18"], ["3_18"]),
        (["layer_3_18"], ["3_18"]),
        (["stages.2.blocks.17.token_mixer"], ["3_18"]),
        (["2_*"], ["2_1", "2_2", "2_3"]),
        (["layer_2_*"], ["2_1", "2_2", "2_3"]),
        (["*_1"], ["1_1", "2_1", "3_1", "4_1"]),
        (["3_1[78]"], ["3_17", "3_18"]),
        (["3_last"], ["3_18"]),
        (["layer_3_last"], ["3_18"]),
        (["3_18,1_1"], ["3_18", "1_1"]),
        (["3_18, 1_1"], ["3_18", "1_1"]),
        (["2_2", "1_*,2_2", "2_last"], ["2_2", "1_1", "1_2", "2_3"]),
        ([], []),
    ],
)
def test_patterns_select_layers_in_the_order_asked_for(patterns, labels):
    assert select_layers(patterns, LAYERS) == labels


def test_all_selects_every_layer():
    assert select_layers(["all"], LAYERS) == LAYERS
    assert len(LAYERS) == 25


@pytest.mark.parametrize("pattern", ["3_19", "5_1", "5_last", "5_*", "layer3", "", "3_18,"])
def test_patterns_that_name_no_layer_are_refused_with_the_valid_ones(pattern):
    with pytest.raises(LayerNotFoundError) as error:
        select_layers([pattern], LAYERS)
    message = str(error.value)
    assert repr(pattern.split(",")[-1]) in message
    assert "1_1 to 1_2, 2_1 to 2_3, 3_1 to 3_18, 4_1 to 4_2" in message


def test_stages_are_described_by_their_first_and_last_layer():
    assert describe_layers(["1_1", "3_7", "3_13"]) == "1_1, 3_7 to 3_13"


def test_a_name_that_is_there_means_itself():
    names = ["03_18", "3_18"]
    assert [find_layer(name, names) for name in ("03_18", "3_18", "layer_3_18")] == ["03_18", "3_18", "3_18"]
    assert select_layers(["03_18"], names) == ["03_18"]
