"""Names of files: within limits, within the folder, and never the same for two subjects."""

import pytest

from atmviz.files import file_name


@pytest.mark.parametrize("text", ["cat", "IMG 0815,2", "写真", "हिन्दी", "café", "a.b-c_d+e=f@g"])
def test_a_plain_text_is_its_own_name(text):
    assert file_name(text) == text


@pytest.mark.parametrize(
    "text",
    [
        *("../../etc/passwd", "/abs", "a/b", "a\\b", ".hidden", "..", "", " ", "-rf", "a\0b", "\x1b[2J", "a\u202eb"),
        *("\udcff.jpg", "é" * 300, "写" * 80, "x" * 300, "semantic_fpn(atmnet_nano)", "e\u0301"),
    ],
)
def test_any_text_gives_a_name_that_stays_in_its_folder(text, tmp_path):
    name = file_name(text)
    assert 0 < len(name.encode()) <= 180
    assert name[0] not in ".- "
    assert not {*name} & {*'/\\\0:*?<>|"\x1b\u202e'}
    tmp_path.joinpath(f"{name}.png").touch()
    assert [file.name for file in tmp_path.iterdir()] == [f"{name}.png"]


def test_two_texts_never_share_a_name():
    texts = [
        "a/b",
        "a-b",
        "a\\b",
        "a:b",
        "a b",
        "-a-b",
        "a-b.",
        "x" * 200,
        "x" * 201,
        "x" * 199 + "y",
        "\udc80",
        "\udc81",
    ]
    texts += ["e\u0301", "é", "", "-", "."]
    assert len({file_name(text) for text in texts}) == len(texts)


def test_a_name_is_cut_between_letters():
    name = file_name("写" * 80)
    assert name.startswith("写" * 50)
    assert file_name("写" * 80) == name
    assert len(file_name("x" * 300, limit=40)) == 40
