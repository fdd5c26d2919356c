"""`atmviz layers`: the layers that can be named, and whose offsets they use."""

import json

import pytest


@pytest.fixture
def rows(succeed):
    """The layers of a model by label, from `--json`."""

    def read(*args):
        return {row["layer"]: row for row in json.loads(succeed("layers", *args, "--json").stdout)["layers"]}

    return read


def test_json_tells_of_each_layer_what_it_is_called_and_whose_offsets_it_uses(rows):
    found = rows("atmnet_nano")
    assert len(found) == 24
    assert found["3_18"] == {
        "layer": "3_18",
        "module": "stages.2.blocks.17.token_mixer",
        "offsets_of": "3_13",
        "generates": False,
        "channels": 64,
        "offsets": 16,
        "channels_per_offset": 4,
        "map_size": [14, 14],
    }
    assert [name for name, row in found.items() if row["generates"]] == ["1_1", "2_1", "3_1", "3_7", "3_13", "4_1"]


def test_map_sizes_follow_the_input_size(rows):
    found = rows("--size", "600x800")
    assert [found[f"{stage}_1"]["map_size"] for stage in (1, 2, 3, 4)] == [[150, 200], [75, 100], [38, 50], [19, 25]]


def test_a_checkpoint_can_be_named(succeed, checkpoint):
    result = succeed("layers", checkpoint, "--json")
    assert json.loads(result.stdout)["model"] == "atmnet_nano"
    assert "5 classes" in result.stderr


def test_the_table_shows_every_layer(succeed):
    lines = succeed("layers", "--size", "64").stdout.splitlines()
    assert "atmnet_nano at 64×64 px" in lines[0]
    (line,) = (line for line in lines if " 3_18 " in line)
    assert line.replace("│", " ").split() == ["3_18", "stages.2.blocks.17.token_mixer", "3_13", "64", "16", "4", "4×4"]
    assert sum("token_mixer" in line for line in lines) == 24
