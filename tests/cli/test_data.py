"""`atmviz data`: what is said of a dataset, and the exit code."""

import json

import pytest

from atmviz.sources import check as module
from atmviz.sources.check import CheckResult


def test_info_prints_addresses_and_the_tree(succeed):
    text = succeed("data", "info", "coco").stdout
    for part in (
        "http://images.cocodataset.org/zips/val2017.zip",
        "instances_val2017.json",
        "19.3 GB",
        "data check coco",
    ):
        assert part in text
    assert json.loads(succeed("data", "info", "ade20k", "--json").stdout)["files"][0]["md5"].startswith("7328")


def test_check_prints_what_lacks_and_fails(run, succeed, monkeypatch, tmp_path):
    made = []

    def check(name, data_dir, **options):
        made.append((name, data_dir, options["splits"], options["read"]))
        return [CheckResult("val images", "4", "5", len(made) > 2, "" if len(made) > 2 else "in here: unpack again")]

    monkeypatch.setattr(module, "check_dataset", check)
    result = run("data", "check", "coco", "--data-dir", tmp_path, "--split", "val", "--read")
    assert result.exit_code == 1
    assert "val images: in here: unpack again" in result.stderr
    assert "✗" in result.stdout
    found = run("data", "check", "coco", "--json")
    assert found.exit_code == 1
    assert json.loads(found.stdout)["whole"] is False
    assert "ade20k is complete" in succeed("data", "check", "ade20k").stderr
    assert made == [("coco", tmp_path, ("val",), True), ("coco", None, ("train", "val"), False),
                    ("ade20k", None, ("train", "val"), False)]  # fmt: skip


def test_a_folder_without_the_dataset_lacks_it(run, tmp_path):
    result = run("data", "check", "coco", "--data-dir", tmp_path)
    assert result.exit_code == 1
    lines = result.stderr.splitlines()
    assert lines[0].startswith(f"train images, val images: none in {tmp_path}: expected coco/{{val2017,train2017}}")
    assert lines[1:] == ["coco is incomplete or damaged: see `atmviz data info coco`"]


@pytest.mark.parametrize("command", ["info", "check"])
@pytest.mark.parametrize("name", ["shapes", "digits"])
def test_datasets_without_files_are_said_to_need_none(refuse, command, name):
    refuse(2, "shapes and digits need no files", "data", command, name)


def test_what_does_not_count_is_said(succeed, monkeypatch):
    found = CheckResult("val images", "5", "5", True, note="left out of coco: hidden or of a tool: 1 (@eaDir/)")
    monkeypatch.setattr(module, "check_dataset", lambda *_, **__: [found])
    assert "val images: left out of coco: hidden or of a tool: 1 (@eaDir/)" in succeed("data", "check", "coco").stderr
