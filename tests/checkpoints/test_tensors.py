"""Files of weights as data: what a tensor is said to be, what is read, what files cost, and that none of them acts.

The oracle is `torch.load` of files that are known to be harmless.
"""

import argparse
import io
import json
import pickle
import re
import struct
import subprocess
import sys
import time
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from atmviz.checkpoints.stored import StoredTensor
from atmviz.checkpoints.tensors import read_tensors, read_weights
from atmviz.errors import CheckpointError


def refusal(path):
    """The one line with which a file is refused."""
    with pytest.raises(CheckpointError) as caught:
        read_weights(read_tensors(path)[0], path)
    message = str(caught.value)
    assert "\n" not in message
    assert len(message) < 700
    assert str(path) in message
    return message


def saved(content, path, zipped=True):
    torch.save(content, path, _use_new_zipfile_serialization=zipped)
    return path


def archive(path, records, compression=zipfile.ZIP_STORED):
    """A zip archive such as torch.save writes, of any content."""
    with zipfile.ZipFile(path, "w", compression) as file:
        for name, content in records.items():
            file.writestr(f"archive/{name}", content)
    return path


@pytest.mark.parametrize("zipped", [True, False], ids=["zip", "old"])
def test_tensors_are_what_torch_loads(zipped, tmp_path):
    base = torch.arange(24.0).reshape(4, 6)
    state = {
        "a.float16": base.half(),
        "a.bfloat16": base.bfloat16(),
        "a.float64": base.double(),
        "a.transposed": base.t(),
        "a.view": base[1:3, 2:],
        "a.expanded": torch.tensor(3.0).expand(5, 7),
        "a.none": torch.zeros(0, 3),
        "a.scalar": torch.tensor(2.5),
        "a.parameter": torch.nn.Parameter(base + 1),
        "a.int64": torch.tensor([1, 2**40]),
        "a.int32": torch.tensor([3], dtype=torch.int32),
    }
    path = saved(state, tmp_path / "a.pth", zipped)
    described, metadata = read_tensors(path)
    read, expected = read_weights(described, path), torch.load(path)
    assert metadata == {}
    assert read.keys() == expected.keys() == described.keys()
    for name, tensor in expected.items():
        assert torch.equal(read[name], tensor)
        assert read[name].dtype == tensor.dtype
        assert described[name].shape == tensor.shape


def test_only_what_is_asked_for_is_read(tmp_path):
    path = saved({"model": {"a.b": torch.ones(3)}, "optimizer": {"big": torch.zeros(1000)}}, tmp_path / "a.pth")
    content = path.read_bytes()
    raw, _ = read_tensors(path)
    assert torch.equal(read_weights(raw["model"], path)["a.b"], torch.ones(3))
    assert isinstance(raw["optimizer"]["big"], StoredTensor)
    assert path.read_bytes() == content


def test_files_without_checksums_are_read(tmp_path):
    before = torch.serialization.get_crc32_options()
    try:
        torch.serialization.set_crc32_options(False)
        path = saved({"a.b": torch.ones(3)}, tmp_path / "a.pth")
    finally:
        torch.serialization.set_crc32_options(before)
    assert read_weights(read_tensors(path)[0], path)["a.b"].tolist() == [1, 1, 1]


def test_big_endian_files_are_read(tmp_path):
    path = saved({"a.b": torch.arange(3.0)}, tmp_path / "a.pth")
    with zipfile.ZipFile(path) as file:
        records = {name.partition("/")[2]: file.read(name) for name in file.namelist()}
    records |= {"byteorder": b"big", "data/0": struct.pack(">3f", 0, 1, 2)}
    archive(path, records)
    assert read_weights(read_tensors(path)[0], path)["a.b"].tolist() == [0, 1, 2]


@pytest.mark.parametrize(
    "beside",
    [
        np.random.default_rng(0),
        np.random.RandomState(0),
        np.random.RandomState(0).get_state(),
        np.float16(0.5),
        np.str_("a"),
        np.bytes_(b"a"),
        np.uint8(1),
        np.datetime64("2022-03-11"),
        np.dtype("f4"),
        np.zeros((2, 3)),
        np.array(["a", None], dtype=object),
        argparse.Namespace(lr=1, nested={"a": [1]}),
        Path("out"),
        {1, 2},
        frozenset([3]),
        bytearray(b"ab"),
        1 + 2j,
        10**30,
        torch.Size([2]),
        torch.float16,
        torch.device("cuda:1"),
        torch.get_rng_state(),
        torch.__version__,
        {3: {"step": 1}, (1, 2): 4},
    ],
    ids=lambda value: type(value).__name__,
)
def test_what_training_scripts_leave_beside_the_weights_is_passed_over(beside, tmp_path):
    path = saved({"model": {"a.b": torch.ones(3)}, "beside": beside}, tmp_path / "a.pth")
    raw, _ = read_tensors(path)
    assert torch.equal(read_weights(raw["model"], path)["a.b"], torch.ones(3))


@pytest.mark.parametrize("kind", ["pth", "safetensors"])
@pytest.mark.parametrize(
    "dtype", ["float8_e4m3fn", "float8_e5m2", "int8", "uint8", "int16", "bool", "complex64", "int64", "int32"]
)
def test_dtypes_that_cannot_be_weights_are_named(kind, dtype, tmp_path):
    state = {"a.weight": torch.ones(3).to(getattr(torch, dtype)), "b.weight": torch.ones(3)}
    path = tmp_path / f"a.{kind}"
    try:
        torch.save(state, path) if kind == "pth" else save_file(state, path)
    except KeyError:
        pytest.skip("this version of safetensors writes no such tensors")
    message = refusal(path)
    assert "1 tensors that are no weights: a.weight" in message
    assert "expected float16, bfloat16, float32 or float64" in message


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    ("kind", "make"),
    [
        ("sparse", lambda: torch.eye(3).to_sparse()),
        ("sparse", lambda: torch.eye(3).to_sparse_csr()),
        ("quantized", lambda: torch.quantize_per_tensor(torch.ones(3), 0.1, 0, torch.qint8)),
        ("quantized", lambda: torch.quantize_per_channel(torch.eye(2), torch.ones(2), torch.zeros(2), 0, torch.qint8)),
        ("meta", lambda: torch.empty(3, device="meta")),
        ("nested", lambda: torch.nested.nested_tensor([torch.zeros(2), torch.zeros(3)])),
    ],
)
def test_layouts_that_cannot_be_weights_are_named(kind, make, tmp_path):
    path = saved({"a.weight": make(), "b.weight": torch.ones(3)}, tmp_path / "a.pth")
    assert f"a.weight ({kind})" in refusal(path)


def test_content_tells_the_kind_of_a_file_whatever_its_name(tmp_path):
    state = {"a.b": torch.ones(3)}
    save_file(state, tmp_path / "a.pth")
    saved(state, tmp_path / "b.safetensors")
    saved(state, tmp_path / "c", zipped=False)
    for name in ("a.pth", "b.safetensors", "c"):
        path = tmp_path / name
        assert torch.equal(read_weights(read_tensors(path)[0], path)["a.b"], state["a.b"])


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n", "git lfs pull"),
        (b"<!DOCTYPE html><html>log in</html>", "web page"),
        (b"\xef\xbb\xbf\n <html>", "web page"),
        (b'{"weight_map": {"a": "m-1.safetensors", "b": "m-2.safetensors"}}', "2 files of weights .m-1.safetensors"),
        (b'\xef\xbb\xbf{"weight_map": {"a": "m.safetensors"}}', "give that, m.safetensors"),
        (b'{"model_type": "swin"}', "JSON file"),
        (b"[" * 10**5, "text file"),
        (b'{"a":' * 10**5, "JSON file"),
        (b"", "empty"),
        (b"\x1f\x8b" + b"\0" * 600, "gzip"),
        (b"\0" * 257 + b"ustar" + b"\0" * 300, "tar archive"),
        (b"\x89HDF\r\n\x1a\n" + b"\0" * 600, "HDF5"),
        (b"\x08\x08\x12\x07pytorch" + b"\0" * 600, "ONNX"),
        (b"import torch\nprint(1)\n" * 50, "text file"),
        (b"\0" * 600, "damaged"),
        (struct.pack("<Q", 2**40) + b"{" + b" " * 600, "damaged"),
    ],
)
@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_other_files_are_called_what_they_are(content, message, suffix, tmp_path):
    path = tmp_path / f"a{suffix}"
    path.write_bytes(content)
    assert re.search(message, refusal(path))


def test_archives_of_other_things_are_called_what_they_are(tmp_path):
    np.savez(tmp_path / "a.npz", a=np.zeros(3))
    assert "zip archive without a PyTorch checkpoint" in refusal(tmp_path / "a.npz")
    program = archive(tmp_path / "b.pt", {"data.pkl": b"", "constants.pkl": b"", "code/a.py": b""})
    assert "TorchScript" in refusal(program)


# What small files could cost, or do.


def test_names_of_any_length_are_refused_at_once(tmp_path):
    (tmp_path / "a.pth").write_bytes(b"\x80\x02c" + b"a" * 10**6 + b"\nb\n)R.")
    began = time.process_time()
    assert "wants to run 'aaaa" in refusal(tmp_path / "a.pth")
    assert time.process_time() - began < 2


@pytest.mark.parametrize(
    "name",
    [
        *("posix system", "os system", "builtins eval", "builtins getattr", "builtins __import__", "torch load"),
        *("torch.hub load", "torch._utils _import_dotted_name", "torch.jit load", "numpy load", "pickle loads"),
        *("torch.storage _load_from_bytes", "torch.serialization load", "numpy.lib.npyio load", "argparse FileType"),
    ],
)
@pytest.mark.parametrize("kind", ["zip", "raw"])
def test_names_that_are_not_known_to_be_harmless_are_refused(name, kind, tmp_path):
    content = b"\x80\x02c" + name.replace(" ", "\n").encode() + b"\nX\x01\x00\x00\x00a\x85R."
    path = tmp_path / "a.pth"
    path.write_bytes(content) if kind == "raw" else archive(path, {"data.pkl": content})
    message = refusal(path)
    assert f"{name.replace(' ', '.')!r} when loaded: refused, nothing was run" in message


def test_memory_does_not_follow_what_a_file_claims(tmp_path):
    """Each would take gigabytes, a stack overflow or hours, were it done as written; most are under 100 bytes."""
    text = b"X\x01\x00\x00\x00a"
    tensor = b"ctorch._utils\n_rebuild_tensor_v2\n((X\x07\x00\x00\x00storagectorch\nFloatStorage\n" + text
    tensor += b"X\x03\x00\x00\x00cpuJ\xff\xff\xff\x7ftQK\x00(J\xff\xff\xff\x7fJ\xff\xff\xff\x7ft(K\x00K\x00t\x89NtR"
    attacks = {
        "memo": b"\x80\x02]r\xff\xff\xff\x7f.",
        "bytearray": b"\x80\x02c__builtin__\nbytearray\nJ\xff\xff\xff\x7f\x85R.",
        "tensor": b"\x80\x02ctorch\nTensor\nJ\xff\xff\xff\x7f\x85R.",
        "punycode": b"\x80\x02c_codecs\nencode\nX\x00\x00\x01\x00"
        + b"\xc3\xa9" * 2**15
        + b"X\x08\x00\x00\x00punycode\x86R.",
        "deep key": b"\x80\x02})" + b"\x85" * 10**6 + b"Ns.",
        "length": b"\x80\x04\x8d" + b"\xff" * 7 + b"\x7f.",
        "long": b"\x80\x02\x8b\xff\xff\xff\x7f.",
        "meta": b"\x80\x02ctorch._utils\n_rebuild_tensor_v2\n(((tR.",
        "endless": b"\x80\x02" + b"(" * 10**6 + b".",
        "storage": b"\x80\x02}X\x03\x00\x00\x00a.b" + tensor + b"s.",
        "bomb": b"\x80\x02]" + b"".join(b"q%c]%s" % (i, b"h%c" % i * 10 + b"a" * 10) for i in range(99)) + b".",
    }
    for name, content in attacks.items():
        (tmp_path / f"{name}.pth").write_bytes(content)
        archive(tmp_path / f"{name}.zip.pth", {"data.pkl": content, "data/a": b"\0" * 64})
    program = (
        "import resource, sys\n"
        "resource.setrlimit(resource.RLIMIT_CPU, (60, 60))\n"
        "from pathlib import Path\n"
        "from atmviz.errors import CheckpointError\n"
        "from atmviz.checkpoints.tensors import read_tensors, read_weights\n"
        "before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        "for path in sorted(Path(sys.argv[1]).iterdir()):\n"
        "    try:\n"
        "        raw = read_tensors(path)[0]\n"
        "        raw and isinstance(raw, dict) and read_weights(raw, path)\n"
        "    except CheckpointError as error:\n"
        "        assert len(str(error)) < 700\n"
        "print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) // 1024)\n"
    )
    run = subprocess.run([sys.executable, "-c", program, tmp_path], capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
    assert int(run.stdout) < 400  # MiB


PAIRS = b"(" + b"X\x01\x00\x00\x00aN\x86" * 10**5 + b"t"  # 100,000 times ("a", None)
TYPED = b"ctorch._tensor\n_rebuild_from_type_v2\n"
REPEATED = {
    "pairs": (PAIRS + b"\x85q\x00", b"ccollections\nOrderedDict\nh\x00R"),
    "arguments": (PAIRS + b"q\x00", b"cargparse\nNamespace\nh\x00R"),
    "objects": (PAIRS + b"q\x00", b"cargparse\nNamespace\nh\x00\x81"),
    "sizes": (PAIRS + b"q\x00", b"ctorch._utils\n_rebuild_tensor\nNK\x00h\x00\x87R"),
    "of a type": (PAIRS + b"\x85q\x00", TYPED + b"(ccollections\nOrderedDict\nNh\x00NtR"),
    "in a circle": (b"]q\x00(" + TYPED + b"Nh\x00Ne", TYPED + b"h\x00R"),
}


@pytest.mark.parametrize("name", REPEATED)
def test_time_does_not_follow_how_often_a_pickle_gives_the_same_to_calls(name, tmp_path):
    shared, call = REPEATED[name]
    (tmp_path / "a.pth").write_bytes(b"\x80\x02" + shared + call * 20_000 + b".")  # about 1 MB
    began = time.process_time()
    assert "damaged" in refusal(tmp_path / "a.pth")
    assert time.process_time() - began < 5


@pytest.mark.parametrize("save", [torch.save, save_file], ids=["pickle", "safetensors"])
def test_names_of_tensors_have_a_bound(save, tmp_path):
    save({"a" * 1000: torch.ones(1)}, tmp_path / "a")
    assert list(read_tensors(tmp_path / "a")[0]) == ["a" * 1000]
    save({"model." * 10**6 + "a": torch.ones(1)}, tmp_path / "b")
    assert "name of 6000001 characters" in refusal(tmp_path / "b")


def test_tensors_that_repeat_their_values_grow_to_a_bound(tmp_path):
    path = saved({"a.b": torch.zeros(1).expand(2**32)}, tmp_path / "a.pth")
    assert f"tensors of {2**34}" in refusal(path)
    path = saved({f"a.{n}": torch.zeros(1).expand(2**26) for n in range(5)}, tmp_path / "b.pth")
    assert f"tensors of {5 * 2**28}" in refusal(path)


@pytest.mark.parametrize(
    ("offset", "shape", "stride"),
    [
        (9, [2], [1]),
        (0, [5], [1]),
        (0, [2, 2], [3, 1]),
        (-1, [2], [1]),
        (0, [-2], [1]),
        (0, [2], [-1]),
        (2**70, [1], [1]),
    ],
)
def test_tensors_outside_their_storage_are_errors(offset, shape, stride, tmp_path):
    class Reduced:
        def __reduce__(self):
            return torch._utils._rebuild_tensor_v2, (Storage(), offset, tuple(shape), tuple(stride), False, {})

    class Storage:
        pass

    class Pickler(pickle.Pickler):
        def persistent_id(self, one):
            return ("storage", torch.FloatStorage, "0", "cpu", 4) if isinstance(one, Storage) else None

    buffer = io.BytesIO()
    Pickler(buffer, 2).dump({"a.b": Reduced()})
    path = archive(tmp_path / "a.pth", {"data.pkl": buffer.getvalue(), "data/0": bytes(16)})
    assert "damaged" in refusal(path)


def test_values_far_apart_are_read_to_a_bound(tmp_path):
    storage = torch.zeros(3 * 2**20)
    state = {f"a.{n}": storage[n:].as_strided((2,), (2**21,)) for n in range(200)}
    assert "tensors of" in refusal(saved(state, tmp_path / "a.pth"))


@pytest.mark.parametrize("zipped", [True, False], ids=["zip", "old"])
def test_a_file_that_is_cut_while_it_is_read_is_an_error(zipped, tmp_path):
    path = saved({"a.b": torch.ones(10**5)}, tmp_path / "a.pth", zipped)
    raw, _ = read_tensors(path)
    with path.open("r+b") as file:
        file.truncate(5000)
    with pytest.raises(CheckpointError, match="ends early"):
        read_weights(raw, path)


def test_a_file_that_is_replaced_while_it_is_read_is_the_former(tmp_path):
    path = saved({"a.b": torch.ones(10)}, tmp_path / "a.pth")
    raw, _ = read_tensors(path)
    saved({"a.b": torch.zeros(10)}, tmp_path / "b.pth").replace(path)
    assert read_weights(raw, path)["a.b"].tolist() == [1] * 10


def test_compressed_records_are_refused(tmp_path):
    path = saved({"a.b": torch.zeros(10**6)}, tmp_path / "a.pth")
    with zipfile.ZipFile(path) as file:
        records = {name.partition("/")[2]: file.read(name) for name in file.namelist()}
    assert "compressed" in refusal(archive(path, records, zipfile.ZIP_DEFLATED))


def test_headers_of_absurd_size_are_refused(tmp_path):
    header = b"{" + b" " * 2**26 + b"}"
    (tmp_path / "a.safetensors").write_bytes(struct.pack("<Q", len(header)) + header)
    assert "a header of" in refusal(tmp_path / "a.safetensors")


def test_a_safetensors_file_may_have_any_metadata(tmp_path):
    save_file({"a.b": torch.ones(2)}, tmp_path / "a.safetensors", {"config": json.dumps({"a": 1})})
    assert read_tensors(tmp_path / "a.safetensors")[1] == {"config": '{"a": 1}'}


def test_reading_opens_the_file_alone_and_no_network(tmp_path):
    """By Python's audit events, which no code can do without: every file opened, every socket, every import."""
    content = {"model": {"a.b": torch.ones(3)}, "args": argparse.Namespace(a=Path("/etc/passwd")), "x": np.zeros(2)}
    saved(content, tmp_path / "a.pth")
    save_file(
        content["model"], tmp_path / "b.safetensors", {"config": '{"pretrained_cfg": {"url": "http://localhost"}}'}
    )
    program = (
        "import sys\n"
        "from pathlib import Path\n"
        "from atmviz.checkpoints.tensors import read_tensors\n"
        "read_tensors(Path(sys.argv[1]))\n"
        "seen = []\n"
        "watched = ('open', 'socket', 'import', 'subprocess', 'os.', 'exec', 'compile', 'ctypes', 'shutil')\n"
        "sys.addaudithook(lambda event, args: seen.append((event, *args[:1])) if event.startswith(watched) else None)\n"
        "read_tensors(Path(sys.argv[1]))\n"
        "opened = {one for one in seen if one[0] != 'open' or type(one[1]) is str and one[1] != sys.argv[1]}\n"
        "assert not opened, opened\n"
    )
    for name in ("a.pth", "b.safetensors"):
        subprocess.run([sys.executable, "-c", program, str(tmp_path / name)], check=True)
