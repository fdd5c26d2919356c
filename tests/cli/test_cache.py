"""`atmviz cache`: what is kept, and its removal after a question."""

import json
import os
import time

import pytest
from atmviz_cli.app import app
from typer.testing import CliRunner


@pytest.fixture
def kept(folder, tmp_path):
    """Two recordings of which one was not used for 40 days, and a kernel."""
    recordings, kernels = tmp_path / "cache" / "recordings", tmp_path / "cache" / f"kernels-{os.geteuid()}"
    old, new = (recordings / f"{name}-{'0' * 20}" for name in ("old", "new"))
    for path in (old, new, kernels):
        path.mkdir(parents=True)
    (new / "zarr.json").write_bytes(bytes(2_500_000))
    (kernels / f"{'1' * 16}.so").touch()
    os.utime(old, (time.time() - 40 * 86_400,) * 2)
    return old, new


def test_what_is_kept_is_listed_with_size_and_last_use(succeed, kept):
    said = succeed("cache", "ls").stdout
    assert "2 recordings and 1 kernel, 2.5 MB" in said
    listed = json.loads(succeed("cache", "ls", "--json").stdout)
    names = [entry["path"].rsplit("/", 1)[1].split("-")[0] for entry in listed["entries"]]
    assert (sorted(names[:2]), names[2]) == (sorted(["new", "1" * 16 + ".so"]), "old")
    assert {entry["kind"]: entry["bytes"] for entry in listed["entries"][:2]} == {"recording": 2_500_000, "kernel": 0}


def test_small_entries_have_a_size_too(succeed, kept, tmp_path):
    (tmp_path / "cache" / f"kernels-{os.geteuid()}" / f"{'1' * 16}.so").write_bytes(bytes(110_001))
    said = succeed("cache", "ls").stdout
    assert "111 kB" in said
    assert "0.0 MB" not in said


@pytest.mark.parametrize(("answer", "code", "left"), [("n\n", 1, True), ("", 1, True), ("y\n", 0, False)])
def test_removal_asks_first(folder, kept, answer, code, left):
    result = CliRunner().invoke(app, ["cache", "clear"], input=answer)
    assert "remove 2 recordings and 1 kernel, 2.5 MB, from " in result.stderr
    assert (result.exit_code, kept[1].exists()) == (code, left)


def test_only_what_was_not_used_for_long_may_be_removed(succeed, kept):
    removed = json.loads(succeed("cache", "clear", "--older-than", "30d", "--yes", "--json").stdout)["removed"]
    assert [entry["path"] for entry in removed] == [str(kept[0])]
    assert [path.exists() for path in kept] == [False, True]
    assert "removed nothing" in succeed("cache", "clear", "--older-than", "24h", "--yes").stderr


@pytest.mark.parametrize("age", ["30", "d", "-1d", "1y", "999999d"])
def test_other_ages_are_refused(refuse, age):
    refuse(2, "expected days or hours, as in 30d or 12h", "cache", "clear", f"--older-than={age}")


def test_an_empty_cache_is_empty(succeed):
    assert "nothing, 0 kB" in succeed("cache", "ls").stdout
    assert "removed nothing" in succeed("cache", "clear").stderr
