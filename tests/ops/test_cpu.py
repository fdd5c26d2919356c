"""The CPU kernels: built once, kept, shared with PyTorch's threads, and done without where they cannot be built."""

import logging
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from atmviz.ops import cpu, sample_along, sampling
from atmviz.ops.reference import sample_reference

needs_kernels = pytest.mark.skipif(cpu.library() is None, reason="no C++ compiler")


@pytest.fixture
def rebuilt(tmp_path, monkeypatch):
    """`library()` as in a new process with an empty cache."""
    monkeypatch.setenv("ATMVIZ_CACHE", str(tmp_path))
    cpu.library.cache_clear()
    yield tmp_path
    cpu.library.cache_clear()


@needs_kernels
def test_kernels_are_built_once_and_leave_nothing_else(rebuilt, monkeypatch):
    assert cpu.library() is not None
    (built,) = rebuilt.rglob("*.*")
    assert built.suffix == ".so"
    cpu.library.cache_clear()
    monkeypatch.setattr(cpu, "_build", lambda *_: pytest.fail("built again"))
    os.utime(built, (0, 0))
    assert cpu.library() is not None
    assert built.stat().st_mtime > 0  # `atmviz cache ls` says when it was last used


@needs_kernels
@pytest.mark.parametrize("damage", ["cut off", "empty", "another library", "one bit", "pipe"])
def test_a_damaged_library_is_never_loaded_but_built_again(damage, tmp_path, monkeypatch):
    good = Path(cpu.library()._name)
    whole = good.read_bytes()
    monkeypatch.setenv("ATMVIZ_CACHE", str(tmp_path))
    (built := tmp_path / good.parent.name / good.name).parent.mkdir(0o700)
    times = []
    monkeypatch.setattr(cpu, "_build", lambda *args: (times.append(1), built.unlink(), built.write_bytes(whole)))
    torn = {
        "cut off": whole[: len(whole) // 2],
        "empty": b"",
        "another library": Path(torch.__file__).parent.joinpath("lib", "libtorch.so").read_bytes(),
        "one bit": whole[:-100] + bytes([whole[-100] ^ 1]) + whole[-99:],
    }
    if damage == "pipe":
        os.mkfifo(built)
    else:
        built.write_bytes(torn[damage])
    cpu.library.cache_clear()
    assert cpu.library() is not None
    assert (built.read_bytes() == whole, times) == (True, [1])
    cpu.library.cache_clear()


PLANTED, BUILT = (text + cpu.hashlib.sha256(text).digest() for text in (b"theirs", b"ours"))


@pytest.fixture
def planted(tmp_path, monkeypatch):
    """A library of the right name and checksum in the cache, and what `library()` then loads."""
    name = Path(cpu.library()._name).name
    monkeypatch.setenv("ATMVIZ_CACHE", str(tmp_path / "cache"))
    file = tmp_path / "cache" / f"kernels-{os.geteuid()}" / name
    file.parent.mkdir(0o700, parents=True)
    file.write_bytes(PLANTED)

    def load():
        loaded = []
        cpu.library.cache_clear()
        with monkeypatch.context() as patch:
            patch.setattr(cpu, "_build", lambda compiler, flags, built: (built.unlink(True), built.write_bytes(BUILT)))
            patch.setattr(cpu.ctypes, "CDLL", lambda path: loaded.append(Path(path).read_bytes()))
            cpu.library()
        return loaded

    yield file, load
    cpu.library.cache_clear()


@needs_kernels
def test_a_library_in_a_folder_of_the_users_own_is_loaded(planted, caplog):
    assert planted[1]() == [PLANTED]
    assert not caplog.records


@needs_kernels
@pytest.mark.parametrize("hole", ["file", "folder", "sticky folder", "cache", "linked folder", "linked file"])
def test_kernels_that_others_could_have_put_there_are_not_loaded(hole, planted, tmp_path, caplog):
    file, load = planted
    folder = file.parent
    open_to_all = {"file": (file, 0o666), "folder": (folder, 0o777), "sticky folder": (folder, 0o1777)}
    if hole in open_to_all:
        open_to_all[hole][0].chmod(open_to_all[hole][1])
    if hole == "cache":
        folder.parent.chmod(0o770)
    if hole == "linked folder":
        (tmp_path / "theirs").mkdir()
        (tmp_path / "theirs").chmod(0o777)
        folder.rename(tmp_path / "theirs" / "kernels")
        folder.symlink_to(tmp_path / "theirs" / "kernels")
    if hole == "linked file":
        file.rename(tmp_path / "theirs.so")
        file.symlink_to(tmp_path / "theirs.so")
    assert load() == [BUILT]
    # a file is replaced; a folder that other users can change is named
    assert [record.message[:23] for record in caplog.records] == ["other users can write t"] * ("file" not in hole)
    assert file.exists()


@needs_kernels
@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
@pytest.mark.parametrize("which", ["file", "folder", "cache"])
def test_kernels_of_another_user_are_not_loaded(which, planted):
    file, load = planted
    os.chown({"file": file, "folder": file.parent, "cache": file.parent.parent}[which], 65534, 65534)
    assert load() == [BUILT]


@needs_kernels
def test_kernels_are_kept_in_a_folder_for_all_that_is_sticky(rebuilt):
    rebuilt.chmod(0o1777)
    assert cpu.library() is not None
    assert len(list(rebuilt.rglob("*.so"))) == 1


@needs_kernels
def test_kernels_are_kept_whatever_the_umask(rebuilt, monkeypatch):
    before = os.umask(0)
    assert cpu.library() is not None
    os.umask(before)
    cpu.library.cache_clear()
    monkeypatch.setattr(cpu, "_build", lambda *_: pytest.fail("built again"))
    assert cpu.library() is not None


def test_without_a_compiler_the_reference_does_the_work(rebuilt, monkeypatch):
    monkeypatch.setattr(cpu.shutil, "which", lambda name: None)
    x, offset = torch.randn(1, 3, 4, 4, requires_grad=True), torch.randn(1, 3, 4, 2)
    out = sample_along(x, offset, "width")
    assert "sample_along" not in str(out.grad_fn)
    assert torch.equal(out, sample_reference(x, offset, 2))


@needs_kernels
def test_a_build_that_fails_is_said_in_one_line_and_not_tried_again(rebuilt, monkeypatch, caplog):
    monkeypatch.setattr(cpu, "_FLAGS", ("--no-such-flag",))
    x, offset = torch.randn(1, 3, 4, 4), torch.randn(1, 3, 4, 2)
    with caplog.at_level(logging.WARNING):
        for _ in range(2):
            assert torch.equal(sample_along(x, offset, "height"), sample_reference(x, offset, 1))
    (record,) = caplog.records
    assert "--no-such-flag" in record.message
    assert "\n" not in record.message
    assert not list(rebuilt.rglob("*.*"))


@needs_kernels
@pytest.mark.parametrize(("says", "said"), [("", "/mute failed"), (r"\377 is wrong", "� is wrong")])
def test_what_a_compiler_says_is_passed_on(says, said, rebuilt, monkeypatch, caplog):
    compiler = rebuilt / "mute"
    compiler.write_text(f"#!/bin/sh\nprintf '{says}' >&2\nexit 1\n")
    compiler.chmod(0o755)
    monkeypatch.setenv("CXX", str(compiler))
    assert cpu.library() is None
    assert f"{said}): sampling runs slower" in caplog.text


@needs_kernels
def test_a_folder_that_cannot_be_written_does_not_stop_sampling(monkeypatch, tmp_path, caplog):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("ATMVIZ_CACHE", str(tmp_path / "file"))
    cpu.library.cache_clear()
    assert cpu.library() is None
    cpu.library.cache_clear()
    assert len(caplog.records) == 1


@needs_kernels
def test_processes_that_build_at_once_all_succeed(tmp_path):
    script = "from atmviz.ops import cpu; assert cpu.library() is not None"
    environment = {**os.environ, "ATMVIZ_CACHE": str(tmp_path)}
    started = [subprocess.Popen([sys.executable, "-c", script], env=environment) for _ in range(2)]
    assert [process.wait() for process in started] == [0, 0]
    assert len(list(tmp_path.rglob("*.*"))) == 1


@needs_kernels
def test_kernels_bring_no_second_openmp():
    needed = subprocess.run(["ldd", cpu.library()._name], capture_output=True, text=True, check=True).stdout
    assert "omp" not in needed


@needs_kernels
@pytest.mark.parametrize("axis", [1, 2])
@pytest.mark.parametrize("shared", [1, 2, 3, 4, 8, 16])
def test_any_number_of_channels_may_share_an_offset(axis, shared):
    x, grad = torch.randn(2, 9, 11, 3 * shared), torch.randn(2, 9, 11, 3 * shared)
    offset = 3 * torch.randn(2, 9, 11, 3)
    out = sample_reference(tokens := x.clone().requires_grad_(), shifts := offset.clone().requires_grad_(), axis)
    torch.testing.assert_close(cpu.forward(x, offset, axis), out.detach())
    expected = torch.autograd.grad(out, (tokens, shifts), grad)
    torch.testing.assert_close(cpu.backward(grad, x, offset, axis), expected)


@needs_kernels
@pytest.mark.parametrize("branch", ["width", "height"])
def test_results_do_not_depend_on_the_number_of_threads(branch):
    x, offset = torch.randn(2, 19, 21, 8, requires_grad=True), (3 * torch.randn(2, 19, 21, 4)).requires_grad_()
    grad, threads, results = torch.randn(x.shape), torch.get_num_threads(), []
    for count in (1, 2, 3):
        torch.set_num_threads(count)
        out = sample_along(x, offset, branch)
        results.append((out, *torch.autograd.grad(out, (x, offset), grad)))
    torch.set_num_threads(threads)
    for other in results[1:]:
        assert all(torch.equal(a, b) for a, b in zip(results[0], other, strict=True))


@needs_kernels
@pytest.mark.parametrize("branch", ["width", "height"])
def test_a_nan_stays_visible(branch):
    x, offset = torch.randn(1, 4, 4, 4), torch.zeros(1, 4, 4, 2)
    offset[0, 1, 2, 0] = float("nan")
    assert sample_along(x, offset, branch).isnan().nonzero().tolist() == [[0, 1, 2, 0], [0, 1, 2, 1]]


@needs_kernels
@pytest.mark.filterwarnings("ignore")  # the checks use parts of PyTorch that are on their way out
@pytest.mark.parametrize("requires_grad", [False, True])
def test_the_registration_keeps_pytorchs_rules(requires_grad):
    x = torch.randn(2, 4, 5, 6, requires_grad=requires_grad)
    offset = torch.randn(2, 4, 5, 2, 3)[..., 0, :].requires_grad_(requires_grad)
    torch.library.opcheck(sampling._sample, (x, offset, 2))


@needs_kernels
def test_an_empty_batch_has_empty_results():
    x, offset = torch.empty(0, 4, 4, 4, requires_grad=True), torch.empty(0, 4, 4, 2, requires_grad=True)
    sample_along(x, offset, "width").sum().backward()
    assert (x.grad.shape, offset.grad.shape) == (x.shape, offset.shape)
