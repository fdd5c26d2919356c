"""Files appear whole or not at all, whatever others put beside them; names of files are never those of two subjects."""

import os
import signal
import stat

import pytest

from atmviz.files import atomic_path, cache_folder, clear_leftovers, file_name, read_limited, temporary_folder


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
    texts += [file_name(text) for text in texts if file_name(text) != text]
    assert len({file_name(text) for text in texts}) == len(texts)


def test_a_name_is_cut_between_letters():
    name = file_name("写" * 80)
    assert name.startswith("写" * 50)
    assert file_name("写" * 80) == name
    assert len(file_name("x" * 300, limit=40)) == 40


@pytest.fixture(autouse=True)
def _as_in_a_new_process():
    clear_leftovers.cache_clear()


def killed_while_writing(path):
    """A process that was killed between beginning and end; it has no time to tidy up."""
    if child := os.fork():
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL
        return
    try:
        with atomic_path(path) as temporary:
            temporary.write_text("half")
            os.kill(os.getpid(), signal.SIGKILL)
    finally:
        os._exit(1)


def test_a_file_appears_whole_with_the_users_mode(tmp_path):
    before = os.umask(0o027)
    with atomic_path(tmp_path / "new" / "a.csv") as temporary:
        temporary.write_text("all")
        assert not (tmp_path / "new" / "a.csv").exists()
        assert stat.S_IMODE(temporary.parent.stat().st_mode) == 0o700
    os.umask(before)
    (written,) = (tmp_path / "new").iterdir()
    assert (written.name, written.read_text(), stat.S_IMODE(written.stat().st_mode)) == ("a.csv", "all", 0o640)


def test_what_fails_leaves_the_file_before(tmp_path):
    (tmp_path / "a").write_text("before")

    def fail():
        with atomic_path(tmp_path / "a") as temporary:
            temporary.write_text("half")
            raise ValueError("enough")

    with pytest.raises(ValueError, match="enough"):
        fail()
    assert [path.name for path in tmp_path.iterdir()] == ["a"]
    assert (tmp_path / "a").read_text() == "before"


def test_a_link_is_replaced_and_not_followed(tmp_path):
    (tmp_path / "precious").write_text("mine")
    (tmp_path / "a").symlink_to("precious")
    with atomic_path(tmp_path / "a") as temporary:
        temporary.write_text("new")
    assert (tmp_path / "precious").read_text() == "mine"
    assert not (tmp_path / "a").is_symlink()


def test_no_two_temporary_folders_have_one_name(tmp_path):
    with temporary_folder(tmp_path) as one, temporary_folder(tmp_path) as other:
        assert one != other
        assert str(os.getpid()) not in one.name


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_what_a_killed_process_left_goes_with_the_next_success(tmp_path):
    killed_while_writing(tmp_path / "a")
    killed_while_writing(tmp_path / "b")
    assert len(list(tmp_path.iterdir())) == 2
    with pytest.raises(ValueError, match="no"), atomic_path(tmp_path / "a"):
        raise ValueError("no")
    assert len(list(tmp_path.iterdir())) == 2
    with atomic_path(tmp_path / "a") as temporary:
        temporary.write_text("all")
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


def test_what_a_process_killed_before_its_lock_left_goes_too(tmp_path):
    (tmp_path / ".atmviz-12345678.partial").mkdir()
    clear_leftovers(tmp_path)
    assert not list(tmp_path.iterdir())


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_what_a_living_process_writes_stays(tmp_path):
    with temporary_folder(tmp_path) as folder:
        (folder / "half").touch()
        reader, writer = os.pipe()
        if not (child := os.fork()):
            clear_leftovers(tmp_path)
            os.write(writer, b"1" if (folder / "half").exists() else b"0")
            os._exit(0)
        os.waitpid(child, 0)
        assert os.read(reader, 1) == b"1"
        os.close(reader)
        os.close(writer)


def test_what_others_call_like_a_leftover_is_not_followed(tmp_path):
    (tmp_path / "precious").mkdir()
    (tmp_path / "precious" / ".lock").write_text("mine")
    (tmp_path / ".atmviz-linked.partial").symlink_to("precious")
    clear_leftovers(tmp_path)
    assert (tmp_path / "precious" / ".lock").read_text() == "mine"


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
def test_leftovers_of_other_users_stay(tmp_path):
    (tmp_path / ".atmviz-theirs.partial").mkdir()
    os.chown(tmp_path / ".atmviz-theirs.partial", 65534, 65534)
    clear_leftovers(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == [".atmviz-theirs.partial"]


def test_a_file_is_read_up_to_a_limit_and_a_pipe_not_waited_for(tmp_path):
    (tmp_path / "file").write_bytes(b"12345")
    assert read_limited(tmp_path / "file", 5) == b"12345"
    os.mkfifo(tmp_path / "pipe")
    os.truncate(tmp_path / "file", 2**40)  # without blocks on the disk
    for name, reason in (("file", "larger"), ("pipe", "no regular"), (".", "directory")):
        with pytest.raises(OSError, match=reason):
            read_limited(tmp_path / name, 5)
    opened = len(os.listdir("/dev/fd"))
    with pytest.raises(IsADirectoryError):
        read_limited(tmp_path, 5)
    assert len(os.listdir("/dev/fd")) == opened


def test_the_cache_is_made_for_its_user_alone(tmp_path, monkeypatch):
    monkeypatch.setenv("ATMVIZ_CACHE", str(tmp_path / "cache"))
    assert stat.S_IMODE(cache_folder().stat().st_mode) == 0o700
