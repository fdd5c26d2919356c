"""`atmviz explore`, end to end, and what it refuses."""

import json


def test_images_become_a_page_beside_which_nothing_is_written(succeed, images, folder):
    result = succeed("explore", images, "-c", "atmnet_nano", "--size", "64", "-j", "0", "--out", "look.html", "--json")
    said = json.loads(result.stdout)
    assert said["files"] == ["look.html"]
    assert said["images"] == 3
    assert said["bytes"] == (folder / "look.html").stat().st_size
    assert [path.name for path in folder.iterdir()] == ["look.html"]


def test_two_recordings_are_compared(succeed, refuse, images, folder):
    common = ("--size", "64", "-j", "0", "--keep", "maps")
    succeed("record", images, "-c", "atmnet_nano", *common, "--out", "one")
    succeed("record", images, "-c", "atmnet_nano", "--seed", "1", *common, "--out", "two")
    result = succeed("explore", "one", "--and", "two", "--max-images", "2", "--layer", "3_18")
    assert result.stdout.strip() == "explorer.html"
    assert "the page shows 2 of 3 images" in result.stderr
    written = (folder / "explorer.html").read_text(encoding="utf-8")
    assert "A: atmnet_nano (untrained), B: atmnet_nano (untrained)" in written
    refuse(2, "got one twice, expected two recordings: repeat it with other weights", "explore", "one", "--and", "one")
    refuse(2, "explorer.html, which is a page of the explorer, expected a recording or", "explore", "explorer.html")
    said = json.loads(succeed("inspect", "explorer.html", "--json").stdout)
    assert (said["kind"], said["images"], said["layers"]) == ("page", 2, ["3_18"])
    assert said["command"].split()[0] == "atmviz"


def test_wrong_input_is_one_line(refuse, recording, folder):
    refuse(2, "keeps no maps: record its images again", "explore", recording)
    refuse(2, "got several recordings, expected one: name the second one by --and", "explore", recording, recording)
    refuse(2, "expected a file ending in .html", "explore", recording, "--out", "look.png")
    refuse(2, "expected a size like 500kB or 10MB, at most 64MB", "explore", recording, "--max-size", "1GB")
    refuse(2, "no layer '9_9'", "explore", recording, "--layer", "9_9")
    (folder / "mine.html").write_text("mine")
    refuse(2, "mine.html exists and is no page of atmviz", "explore", recording, "--out", "mine.html")
