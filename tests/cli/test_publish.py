"""`atmviz publish`, end to end, and what it refuses."""

import json


def test_a_checkpoint_becomes_a_folder(succeed, checkpoint, folder):
    result = succeed("publish", checkpoint, "--out", "out", "--json")
    said = json.loads(result.stdout)
    assert (said["model"], said["url"]) == ("atmnet_nano", None)
    assert sorted(said["files"]) == ["out/README.md", "out/config.json", "out/model.safetensors"]
    assert succeed("publish", checkpoint).stdout.splitlines()[0] == "published/model.safetensors"


def test_wrong_input_is_one_line(refuse, checkpoint, folder):
    refuse(2, "got repository 'mine', expected user/repo", "publish", checkpoint, "--push", "mine")
    refuse(1, "no checkpoint file none.pth", "publish", "none.pth")
    (folder / "published").mkdir()
    (folder / "published" / "mine").touch()
    refuse(2, "published exists and is not empty", "publish", checkpoint)
