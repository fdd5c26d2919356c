"""Addresses of the Hugging Face Hub, fetched from a stand-in that speaks its few endpoints."""

import json
from pathlib import Path

import pytest
from hub_server import COMMIT

import atmviz
from atmviz.choices import DataChoice, ModelChoice
from atmviz.errors import CheckpointError, SettingsError
from atmviz.files import find_checkpoint
from atmviz.hub import HubAddress, is_hub_address, require_repository
from atmviz.recording.settings import RecordingSettings
from atmviz.views.recordings import RecordedSource


def resolved(hub):
    """Paths that were asked for, without what huggingface_hub asks for itself."""
    return [asked for asked in hub.asked if "/user/" in asked]


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("hf://user/repo", ("user/repo", None, None)),
        ("hf://user/repo@v1.0", ("user/repo", "v1.0", None)),
        ("hf://user/repo@v1/a/b.pth", ("user/repo", "v1", "a/b.pth")),
        ("hf://user/repo@refs/pr/1/x.safetensors", ("user/repo", "refs/pr/1", "x.safetensors")),
        (Path("hf://user/repo/x.safetensors"), ("user/repo", None, "x.safetensors")),  # a Path keeps one slash
    ],
)
def test_an_address_has_a_repository_a_revision_and_a_file(text, parts):
    address = HubAddress.parse(text)
    assert (address.repo, address.revision, address.file) == parts


@pytest.mark.parametrize(
    "text",
    [
        *("hf://user", "hf://user/repo/../../x", "hf://../repo", "hf://user/repo@../x", "hf://user/repo/a\\..\\x"),
        *("hf://user/repo/a\nb", "hf://user/repo@", "hf://user/re po", "hf:///user/repo", "hf://user/repo/./x"),
    ],
)
def test_what_is_no_address_or_leaves_the_repository_is_refused_before_anything_is_asked(text, hub):
    with pytest.raises(SettingsError, match="expected hf://user/repo"):
        find_checkpoint(text)
    assert hub.asked == []


def test_a_network_is_loaded_by_its_address_and_says_which_commit_it_is(hub):
    network = atmviz.load_model("hf://user/one", device="cpu")
    local = atmviz.load_model(device="cpu")
    assert network.origin.path == f"hf://user/one@{COMMIT}/model.safetensors"
    assert network.origin.sha256 == local.origin.sha256
    assert is_hub_address(network.origin.path)
    asked = resolved(hub)
    assert find_checkpoint(network.origin.path).read_bytes() == hub.repos["user/one"]["model.safetensors"]
    assert [each for each in resolved(hub)[len(asked) :] if each.startswith("GET /user")] == []  # from the cache
    assert {each.split()[1].split("/")[-1] for each in asked} == {"one", "model.safetensors"}  # and nothing else


def test_the_cache_serves_where_the_hub_is_away_or_is_not_to_be_asked(hub, monkeypatch):
    from huggingface_hub import constants

    fetched = find_checkpoint("hf://user/one")
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    before = len(hub.asked)
    assert find_checkpoint("hf://user/one") == find_checkpoint("hf://user/one/model.safetensors") == fetched
    with pytest.raises(CheckpointError, match="hf://user/two is not in the cache as named, and HF_HUB_OFFLINE is set"):
        find_checkpoint("hf://user/two/a.safetensors")
    assert len(hub.asked) == before
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    assert find_checkpoint("hf://user/one") == fetched
    with pytest.raises(CheckpointError, match=r"is not in the cache as named, and .* cannot be reached"):
        find_checkpoint("hf://user/two")


@pytest.mark.parametrize(
    ("address", "says"),
    [
        ("user/two", r"has 2 safetensors files \(a.safetensors, b.safetensors\): name one"),
        ("user/pickled", "has no safetensors file, only x.pth: name one"),
        ("user/missing", "no repository hf://user/missing at http.* that you may read"),
        ("user/private", "for a private one set HF_TOKEN"),
        ("user/gated", "open only to those who accepted its terms"),
        ("user/one@nope", "no revision 'nope' of hf://user/one"),
        ("user/one/none.safetensors", "no file 'none.safetensors' in hf://user/one"),
    ],
)
def test_what_cannot_be_fetched_is_said_in_one_line(hub, address, says):
    with pytest.raises(CheckpointError, match=says) as error:
        find_checkpoint(f"hf://{address}")
    assert len(str(error.value).splitlines()) == 1


def test_the_token_is_that_of_the_environment(hub, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "secret")
    assert find_checkpoint("hf://user/private").is_file()


def test_a_web_page_in_place_of_weights_is_recognized(hub):
    hub.repos["user/one"]["model.safetensors"] = b"<!doctype html><p>Sign in"
    with pytest.raises(CheckpointError, match="is a web page, not the file itself"):
        find_checkpoint("hf://user/one")


def test_converted_and_inspected_files_keep_the_address(hub, tmp_path):
    address = f"hf://user/one@{COMMIT}/model.safetensors"
    assert atmviz.inspect(Path("hf://user/one"))["path"] == address
    atmviz.convert_checkpoint(Path("hf://user/one"), tmp_path / "out.safetensors")
    head = (tmp_path / "out.safetensors").read_bytes()[8:]
    assert (
        json.JSONDecoder().raw_decode(head[:100_000].decode("utf-8", "replace"))[0]["__metadata__"]["source"] == address
    )


def test_metadata_of_a_checkpoint_fetch_nothing(hub, tmp_path):
    """A file says where it came from; that is text."""
    test_converted_and_inspected_files_keep_the_address(hub, tmp_path)
    before = len(hub.asked)
    atmviz.load_model(tmp_path / "out.safetensors", device="cpu")
    assert len(hub.asked) == before


@pytest.mark.parametrize("text", ["user", "user/repo/file", "a/b@c", "../repo", "user/..", "hf://user/repo"])
def test_a_repository_to_push_to_is_a_user_and_a_name(text):
    with pytest.raises(SettingsError, match="expected user/repo"):
        require_repository(text)


@pytest.mark.parametrize(
    ("names", "says"),
    [
        (["a\x1b[31m\n.safetensors", "\u202e.safetensors", "../x.safetensors"], "has no safetensors file: name one"),
        (["a\n.pth", "b.pth"], r"only b\.pth: name one"),
        ([f"{letter * 4000}.safetensors" for letter in "ab"], r"\(a{80}\.\.\., b{80}\.\.\.\): name one"),
    ],
)
def test_names_that_no_address_can_have_are_left_out_and_long_ones_cut(hub, names, says):
    hub.repos["user/one"] = dict.fromkeys(names, b"")
    with pytest.raises(CheckpointError, match=says) as error:
        find_checkpoint("hf://user/one")
    assert str(error.value).isprintable()


def test_a_file_that_is_listed_but_not_handed_out_is_named_so(hub):
    class Withheld(dict):
        def __contains__(self, name):
            return False

    hub.repos["user/one"] = Withheld({"a.safetensors": b""})
    with pytest.raises(CheckpointError, match="hand out"):
        find_checkpoint("hf://user/one")


def test_a_hub_that_names_no_commit_is_refused():
    with pytest.raises(CheckpointError, match="names no commit of hf://user/one"):
        HubAddress.parse("hf://user/one").at_commit(Path("hub/snapshots/main/model.safetensors"))


@pytest.mark.parametrize("before", ["", "init:"])
def test_a_choice_is_pinned_to_the_commit_so_that_a_branch_cannot_move_between_two_readings(hub, before):
    pinned = ModelChoice(checkpoint=f"{before}hf://user/one").pinned()
    assert pinned.checkpoint == f"{before}hf://user/one@{COMMIT}/model.safetensors"
    assert ModelChoice(checkpoint="x.pth").pinned() == ModelChoice(checkpoint="x.pth")


def test_a_recording_is_cached_under_the_weights_that_made_it_though_the_branch_moves(hub, monkeypatch):
    asked = []
    monkeypatch.setattr(RecordedSource, "_cached", lambda self, images, events: asked.append(self.model.checkpoint))
    images = DataChoice(dataset="shapes", limit=1)
    with RecordedSource.of(None, "hf://user/one", images, RecordingSettings(size="64"), ModelChoice()).made():
        assert asked == [f"hf://user/one@{COMMIT}/model.safetensors"]
