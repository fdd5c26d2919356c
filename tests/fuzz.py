"""A seeded fuzzer: hostile and damaged checkpoints, recordings, recipes, annotations, masks and images.

    python tests/fuzz.py [--inputs 2000] [--seed 0] [--kind checkpoint ...] [--only INPUT]

Every input is made from a whole one by a few changes that follow from (seed, number) alone, and is given to the command
or function that reads its kind. An input fails on

- any exception but `AtmvizError` and the exits of the command line,
- a signal (a crash), or more than `SECONDS` seconds,
- more than `GIGABYTES` of memory beyond those of a fresh process,
- a file written outside the output folder, another file read, a connection, or a program started.

Failed inputs are named; `--only 17` runs input 17 again in this process, with its traceback.
"""

import argparse
import contextlib
import copy
import io
import json
import multiprocessing
import os
import pickle
import random
import resource
import shutil
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Callable
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any

SECONDS = 30
GIGABYTES = 4
PROCESSES = 2
_HOSTILE: tuple[Any, ...] = (
    *(None, True, False, 0, -1, 1, 3, 2**31, 2**63, 10**30, -(10**400), 0.5, -0.0, 1e308, float("nan"), float("inf")),
    *(
        "",
        " ",
        "a",
        "../../evil",
        "/evil",
        "\x1b[2J\x1b]0;x\x07",
        "\u202e",
        "\ud800",
        "x" * 5000,
        "0",
        "nan",
        "\0",
        "é",
    ),
    *([], [[]], [None], [0] * 1000, {}, {"": 0}, {"a": {"b": []}}),
)
_SECRET = "/etc/hostname"  # read by nobody but who was told to
_TIMM_ARGUMENTS = (
    {"pretrained": True},
    {"pretrained": True, "pretrained_cfg": {"url": "http://127.0.0.1:9/x.pth"}},
    {"checkpoint_path": _SECRET},
    {"pretrained_cfg_overlay": {"file": _SECRET}, "pretrained": True},
    {"cache_dir": "/evil", "pretrained": True},
)
_TEXTS = [b"", b"\0" * 64, b"\xff" * 64, b"%!PS-Adobe\n", b"<html>", b"PK\x03\x04", b"\x80\x02.", b"A" * 3000]


def change_bytes(data: bytes, draw: random.Random) -> bytes:
    """A few bits, bytes, numbers or stretches of it changed."""
    out = bytearray(data)
    for _ in range(draw.choice((1, 1, 2, 4, 16))):
        place = draw.randrange(len(out) + 1)
        length = draw.choice((1, 2, 4, 8, 64, 1024))
        match draw.randrange(8):
            case 0 if out:
                out[place % len(out)] ^= 1 << draw.randrange(8)
            case 1:
                out[place : place + length] = draw.randbytes(length)
            case 2:
                del out[place : place + length]
            case 3:
                out[place:place] = out[place : place + length]
            case 4:
                del out[place:]
            case 5:
                out[place:place] = draw.choice(_TEXTS)
            case 6:
                number = draw.choice((0, 1, 0x7F, 0x80, 0xFF, 0x7FFFFFFF, 0xFFFFFFFF, 2**63))
                out[place : place + 8] = number.to_bytes(8, draw.choice(("little", "big")))
            case _ if len(out) > 1:
                head = place % min(len(out), 512)  # headers decide most
                out[head] = draw.randrange(256)
    return bytes(out)


def change_values(value: Any, draw: random.Random) -> Any:
    """A copy of JSON-like data with one to three of its nodes replaced, removed, doubled or buried."""
    value = copy.deepcopy(value)
    for _ in range(draw.choice((1, 1, 2, 3))):
        holders: list[tuple[Any, Any]] = []

        def walk(node: Any, holders: list[tuple[Any, Any]] = holders) -> None:
            keys = node.keys() if isinstance(node, dict) else range(len(node)) if isinstance(node, list) else ()
            for key in list(keys)[:200]:
                holders.append((node, key))
                walk(node[key])

        walk(value)
        if not holders:
            return draw.choice(_HOSTILE)
        holder, key = draw.choice(holders)
        match draw.randrange(6):
            case 0:
                del holder[key]
            case 1 if isinstance(holder, dict):
                holder[
                    draw.choice(("", "x", "__class__", "pretrained", "checkpoint_path", "url", str(key).upper()))
                ] = holder[key]
            case 2:
                deep: Any = holder[key]
                for _ in range(draw.choice((1, 50, 250))):
                    deep = [deep]
                holder[key] = deep
            case _:
                holder[key] = copy.deepcopy(draw.choice(_HOSTILE))
    return value


class Place:
    """Where one process keeps its whole inputs, the changed one, and what is written of it."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.seeds, self.input, self.out = folder, folder / "seeds", folder / "input", folder / "out"
        for one in (self.seeds, self.input, self.out, folder / "home"):
            one.mkdir(parents=True)
        (folder / "tmp").mkdir()
        os.chdir(self.out)
        os.environ.update(HOME=str(folder / "home"), TMPDIR=str(folder / "tmp"), COLUMNS="80")
        os.environ.update(ATMVIZ_CACHE=str(folder / "cache"), MPLCONFIGDIR=str(folder / "cache"))
        tempfile.tempdir = None
        self._prepare()

    def _prepare(self) -> None:
        """Record three images; what is compiled or looked up once, as kernels and fonts are, is so here."""
        for number in range(3):
            _image(random.Random(number)).save(self.seeds / f"{number}.png")
        images = sorted(self.seeds.glob("*.png"))
        self.recording = self.seeds / "recording"
        self.command("record", *images, "--size", "64", "--out", self.recording, "--workers", "0")
        self.command("histogram", self.recording, "--out", self.out)
        self.command("overlay", images[0], "--size", "64", "--out", self.out)

    def clear(self) -> None:
        for one in (self.input, self.out):
            for child in one.iterdir():
                shutil.rmtree(child) if child.is_dir() and not child.is_symlink() else child.unlink()

    def command(self, *arguments: Any) -> None:
        """Run a command in this process; what it prints is dropped."""
        from atmviz_cli.app import app

        out, err = (io.TextIOWrapper(io.BytesIO(), "utf-8", "backslashreplace") for _ in range(2))
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err), contextlib.suppress(SystemExit):
            app([str(one) for one in arguments], prog_name="atmviz")


def checkpoint(place: Place, draw: random.Random) -> None:
    """A file of weights, pickled or as safetensors: bytes, metadata, values, names and kinds of its tensors."""
    import torch
    from safetensors import safe_open
    from safetensors.torch import load_file, save_file

    import atmviz
    from atmviz.files import find_checkpoint

    source = find_checkpoint("atmnet_nano.shapes")
    with safe_open(source, "pt") as file:
        metadata = dict(sorted(file.metadata().items()))  # in an order of chance in the file
    state = load_file(source)
    target = place.input / draw.choice(("x.safetensors", "x.pth", "x.ckpt"))
    match draw.randrange(5):
        case 0:
            target.write_bytes(change_bytes(source.read_bytes(), draw))
        case 1:
            if draw.random() < 0.2:
                config = {**json.loads(metadata["config"]), **draw.choice(_TIMM_ARGUMENTS)}
                metadata["config"] = json.dumps(config)
            for name in draw.sample(("config", "about"), draw.choice((0, 1, 2))):
                metadata[name] = json.dumps(change_values(json.loads(metadata[name]), draw))
            if draw.random() < 0.2:
                metadata["architecture"] = draw.choice(
                    ("evil", "mask_rcnn(atmnet_nano)", "mask_rcnn(resnet18)", "upernet(../x)")
                )
            save_file(state, target, {key: value for key, value in metadata.items() if draw.random() < 0.95})
        case 2:
            for name in draw.sample(sorted(state), draw.choice((1, 3, 40))):
                state[name] = _odd_tensor(state[name], draw)
            torch.save(
                draw.choice((state, {"model": state}, {"state_dict": state, "epoch": 1}, {"ema": state, "model": 0})),
                target,
            )
        case 3:
            wrapped: Any = {"model": dict(list(state.items())[:20]), "args": {"lr": 0.1}, "epoch": [1, {"a": None}]}
            wrapped = change_values(wrapped, draw)
            target.write_bytes(pickle.dumps(wrapped) if draw.random() < 0.3 else _saved(wrapped))
        case _:
            target.write_bytes(change_bytes(_saved({"model": dict(list(state.items())[:30])}), draw))
    match draw.randrange(10):
        case 0:
            place.command("convert", target, place.out / "made.safetensors")
        case 1:
            place.command("eval", target, "--limit", "2", "--workers", "0")
        case _:
            network = atmviz.load_model(target, device="cpu")
            with torch.inference_mode():
                network(torch.zeros(1, 3, 64, 64))


def _saved(value: Any) -> bytes:
    import torch

    stream = io.BytesIO()
    try:
        torch.save(value, stream)
    except (UnicodeEncodeError, RecursionError):  # lone surrogates, depth
        return pickle.dumps(repr(value))
    return stream.getvalue()


def _odd_tensor(tensor: Any, draw: random.Random) -> Any:
    import torch

    kinds: list[Callable[[], Any]] = [
        *(
            lambda d=d: tensor.to(d)
            for d in (torch.int8, torch.bool, torch.complex64, torch.float8_e4m3fn, torch.float16)
        ),
        lambda: tensor.to_sparse(),
        lambda: torch.zeros(1).expand(2 ** draw.choice((10, 33, 40))),
        lambda: torch.full_like(tensor, float("nan")),
        lambda: tensor.flatten()[:1].expand(tensor.shape),
        lambda: tensor.flatten(),
        lambda: torch.tensor(3.0),
        lambda: torch.empty(0),
        lambda: None,
        lambda: "text",
        lambda: torch.quantize_per_tensor(tensor.float(), 0.1, 0, torch.qint8),
        lambda: torch.nn.Parameter(tensor),
    ]
    return draw.choice(kinds)()


def recording(place: Place, draw: random.Random) -> None:
    """A recording: its attributes, its arrays' descriptions, the bytes of its chunks, its files."""
    import atmviz

    target = place.input / "recording"
    shutil.copytree(place.recording, target)
    files = sorted(file for file in target.rglob("*") if file.is_file())
    chosen = draw.choice([target / "zarr.json", draw.choice(files)])
    match draw.randrange(4):
        case 0:
            chosen.write_bytes(change_bytes(chosen.read_bytes(), draw))
        case 1:
            chosen.unlink()
        case _:
            chosen = draw.choice([target / "zarr.json", target / "zarr.json", *target.glob("*/zarr.json")])
            described = json.loads(chosen.read_text())
            attributes = described.get("attributes")
            if attributes and draw.random() < 0.7:
                part = draw.choice(("layers", "quantities", None, None)) if "quantities" in attributes else None
                if part:
                    attributes[part] = change_values(attributes[part], draw)
                else:
                    described["attributes"] = change_values(attributes, draw)
            else:
                described = change_values(described, draw)
            chosen.write_text(json.dumps(described))
    match draw.randrange(4):
        case 0:
            place.command(
                "histogram", target, "--out", place.out, "--layer", "3_1", "--tokens", draw.choice(("center", "all"))
            )
        case 1:
            place.command("merge", target, place.recording, "--out", place.out / "both")
        case _:
            opened = atmviz.open_recording(target)
            repr(opened)
            for site in opened.sites:
                for read in (
                    opened.offsets,
                    opened.mean_abs_offset,
                    opened.outside_share,
                    opened.fusion,
                    opened.counts,
                ):
                    read(site.name)
            opened.to_xarray()


def recipe(place: Place, draw: random.Random) -> None:
    """A recipe: settings of other kinds and sizes, YAML of its own devising, bytes."""
    import yaml

    from atmviz.training.recipe import Recipe
    from atmviz.training.recipe_files import read_recipe, recipe_names

    text = read_recipe(draw.choice(recipe_names()), {"finetune": "x.pth"}).to_yaml()
    target = place.input / "r.yaml"
    match draw.randrange(4):
        case 0:
            target.write_bytes(change_bytes(text.encode(), draw))
        case 1:
            values = change_values(yaml.safe_load(text), draw)
            with contextlib.suppress(yaml.YAMLError, UnicodeEncodeError, RecursionError):
                text = yaml.safe_dump(values)
            target.write_text(text, "utf-8", "surrogatepass")
        case 2:
            tags = (
                "!!python/object/apply:os.system [id]",
                "&a [*a, *a]",
                "!!binary aaaa",
                "2026-13-45",
                "0x" + "f" * 999,
                "[" * 2000,
            )
            target.write_text(text + f"\n{draw.choice(list(Recipe.__dataclass_fields__))}: {draw.choice(tags)}\n")
        case _:
            bomb = "a0: &a0 [x, x, x, x, x, x, x, x, x]\n"
            bomb += "".join(f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]\n" for i in range(1, draw.choice((2, 9))))
            target.write_text(bomb + "".join(f"k{i}: 1\n" for i in range(draw.choice((0, 20_000)))))
    place.command("train", "--recipe", target, "--print-recipe")


def annotations(place: Place, draw: random.Random) -> None:
    """COCO's instances: values, run lengths, polygons, bytes."""
    import numpy as np

    from atmviz.data.detection import open_detection
    from atmviz.sources.coco import coco_masks

    runs = coco_masks().encode(np.asfortranarray(np.tri(64, dtype=np.uint8)))
    folder = place.input / "coco"
    images = folder / "val2017"
    images.mkdir(parents=True)
    for number in (1, 2):
        _image(draw).save(images / f"{number}.png")
    counts = [draw.choice((0, 5, 64 * 64, 10**6)) for _ in range(4)]
    content: Any = {
        "images": [{"id": n, "file_name": f"{n}.png", "width": 64, "height": 64} for n in (1, 2)],
        "categories": [{"id": 1, "name": "ant"}, {"id": 7, "name": "bee"}],
        "annotations": [
            {
                "id": 1,
                "image_id": 1,
                "category_id": 1,
                "bbox": [2, 3, 20, 30],
                "area": 600,
                "iscrowd": 0,
                "segmentation": [[2, 3, 22, 3, 22, 33]],
            },
            {
                "id": 2,
                "image_id": 1,
                "category_id": 7,
                "bbox": [0, 0, 9, 9],
                "area": 81,
                "iscrowd": 1,
                "segmentation": {"size": [64, 64], "counts": [0, 9, 4087]},
            },
            {
                "id": 3,
                "image_id": 2,
                "category_id": 7,
                "bbox": [1, 1, 5, 5],
                "area": 25,
                "iscrowd": 0,
                "segmentation": {"size": [64, 64], "counts": runs["counts"].decode()},
            },
        ],
    }
    if draw.random() < 0.2:
        content["annotations"][1]["segmentation"]["counts"] = counts
    text = json.dumps(change_values(content, draw)).encode()
    if draw.random() < 0.3:
        text = change_bytes(text, draw)
    (folder / "annotations").mkdir()
    (folder / "annotations" / "instances_val2017.json").write_bytes(text)
    found = open_detection("coco", "val", 64, data_dir=folder, hflip=0.0 if draw.random() < 0.5 else None)
    for index in range(len(found)):
        item = found[index]
        if "annotations" in item:
            found.target(item["annotations"], tuple(item["image"].shape[-2:]))


def mask(place: Place, draw: random.Random) -> None:
    """ADE20K's masks: modes, sizes, formats, values, bytes."""
    import numpy as np
    from PIL import Image

    from atmviz.data.segmentation import open_segmentation

    root = place.input / "ADEChallengeData2016"
    for kind in ("images", "annotations"):
        (root / kind / "validation").mkdir(parents=True)
    _image(draw).save(root / "images/validation/a.jpg")
    values = np.random.default_rng(draw.randrange(2**32)).integers(0, draw.choice((2, 151, 256)), (64, 64), np.uint8)
    made: Any = Image.fromarray(values).convert(
        draw.choice(("L", "L", "P", "RGB", "RGBA", "I", "F", "1", "LA", "CMYK"))
    )
    if draw.random() < 0.2:
        made = made.resize((draw.choice((1, 63, 128)), 64))
    stream = io.BytesIO()
    kinds = [kind for kind in ("PNG", "BMP", "TIFF", "GIF", "JPEG", "WEBP", "PPM") if draw.random() < 0.5] or ["PNG"]
    with contextlib.suppress(OSError, KeyError, ValueError):  # not every format takes every mode
        made.save(stream, draw.choice(kinds))
    data = stream.getvalue()
    (root / "annotations/validation/a.png").write_bytes(change_bytes(data, draw) if draw.random() < 0.7 else data)
    open_segmentation("ade20k", "val", 64, data_dir=place.input)[0]


def image(place: Place, draw: random.Random) -> None:
    """Photographs in every format that Pillow writes: modes, sizes, bytes, formats that nobody asked for."""
    from PIL import Image

    from atmviz.sources.decoding import load_image

    Image.init()
    made = _image(draw).convert(draw.choice(("RGB", "RGB", "L", "P", "RGBA", "I", "F", "1", "LA", "CMYK", "I;16")))
    kind = draw.choice(("JPEG", "JPEG", "PNG", "PNG", *sorted(Image.SAVE)))
    stream = io.BytesIO()
    with contextlib.suppress(Exception):  # not every format takes every mode
        made.save(stream, kind)
    target = place.input / draw.choice(("x.jpg", "x.png", "\x1b[2Jx.jpg", "写真.webp", "x.tif"))
    target.write_bytes(change_bytes(stream.getvalue(), draw) if draw.random() < 0.8 else stream.getvalue())
    if draw.random() < 0.05:
        place.command("overlay", target, "--size", "64", "--out", place.out)
    else:
        load_image(target, upright=draw.random() < 0.5)


def _image(draw: random.Random) -> Any:
    import numpy as np
    from PIL import Image

    return Image.fromarray(np.random.default_rng(draw.randrange(2**32)).integers(0, 256, (64, 64, 3), np.uint8))


KINDS = {one.__name__: one for one in (checkpoint, recording, recipe, annotations, mask, image)}


# Which of an audit event's arguments name what is changed; of others the first
_CHANGED: dict[str, Callable[[tuple[Any, ...]], tuple[Any, ...]]] = {
    "os.rename": lambda arguments: arguments[:2],
    "os.link": lambda arguments: arguments[1:2],
    "os.symlink": lambda arguments: arguments[1:2],
}


class Guard:
    """Notes what the process does outside a folder: files it would write, programs, connections."""

    def __init__(self, allowed: Path) -> None:
        self.allowed, self.broken, self.active = str(allowed), "", False
        sys.addaudithook(self._see)

    def _see(self, event: str, arguments: tuple[Any, ...]) -> None:
        if not self.active or self.broken:
            return
        if event in (
            "socket.connect",
            "socket.getaddrinfo",
            "subprocess.Popen",
            "os.system",
            "os.exec",
            "os.posix_spawn",
        ):
            self.broken = f"{event} {str(arguments[0])[:80]}"
        if event == "open" and arguments[0] == _SECRET:
            self.broken = f"read {_SECRET}"
        writes = (
            event == "open" and isinstance(arguments[2], int) and arguments[2] & (os.O_WRONLY | os.O_RDWR | os.O_CREAT)
        )
        if writes or event in (
            "os.remove",
            "os.rmdir",
            "os.mkdir",
            "os.rename",
            "os.symlink",
            "os.link",
            "shutil.rmtree",
        ):
            for path in _CHANGED.get(event, lambda arguments: arguments[:1])(arguments):
                if isinstance(path, str | bytes | os.PathLike):
                    full = os.path.abspath(os.fsdecode(path))
                    if not full.startswith((self.allowed, "/dev/null", "/proc/self")):
                        self.broken = f"{event} {full[:120]} outside its folder"


def run_input(place: Place, guard: Guard, kinds: list[str], seed: int, number: int) -> str:
    """Make and use one input; gives "read", "refused" or what went wrong."""
    from atmviz.errors import AtmvizError

    draw = random.Random(f"{seed} {number}")
    place.clear()
    before = _listing(place.folder / "home")
    guard.broken = ""
    try:
        guard.active = True
        KINDS[kinds[number % len(kinds)]](place, draw)
        said = "read"
    except AtmvizError as error:
        said = "refused" if "\n" not in str(error) and len(str(error)) < 3000 else f"a message of many lines: {error}"
    finally:
        guard.active = False
    if guard.broken or _listing(place.folder / "home") != before:
        said = guard.broken or "wrote into the home folder"
    return said


def _listing(folder: Path) -> list[str]:
    return sorted(str(file) for file in folder.rglob("*"))


def _serve(pipe: Connection, folder: Path, kinds: list[str], seed: int) -> None:
    """Runs inputs by number until the pipe closes."""
    import torch

    torch.set_num_threads(1)
    place, guard = Place(folder), Guard(folder)
    pipe.send(_peak_gigabytes())
    with contextlib.suppress(EOFError):
        while True:
            number = pipe.recv()
            try:
                said = run_input(place, guard, kinds, seed, number)
            except BaseException as error:
                last = traceback.extract_tb(error.__traceback__)[-1]
                text = " ".join(str(error).split())[:160]
                said = guard.broken or f"{type(error).__name__} in {Path(last.filename).name}:{last.lineno}: {text}"
            pipe.send((said, _peak_gigabytes()))


def _peak_gigabytes() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


class Worker:
    """One process, started anew when it hangs, crashes or has grown."""

    def __init__(self, folder: Path, kinds: list[str], seed: int) -> None:
        self.folder, self.kinds, self.seed, self.starts = folder, kinds, seed, 0
        self.start()

    def start(self) -> None:
        self.starts += 1
        self.pipe, other = multiprocessing.Pipe()
        arguments = (other, self.folder / str(self.starts), self.kinds, self.seed)
        self.process = multiprocessing.get_context("fork").Process(target=_serve, args=arguments, daemon=True)
        self.process.start()
        other.close()
        self.first_peak: float = self.pipe.recv()
        self.number = 0

    def give(self, number: int) -> None:
        self.number, self.until = number, time.monotonic() + SECONDS
        self.pipe.send(number)

    def take(self) -> str | None:
        """What became of the input at work, None while it goes on."""
        if self.pipe.poll():
            try:
                said, peak = self.pipe.recv()
                if peak - self.first_peak < GIGABYTES:
                    return said
                said = f"grew by {peak - self.first_peak:.1f} GB"
            except (EOFError, ConnectionResetError):
                self.process.join(5)
                said = f"ended by signal or exit {self.process.exitcode}"
        elif time.monotonic() < self.until:
            return None
        else:
            said = f"took over {SECONDS} s"
        self.stop()
        self.start()
        return said

    def stop(self) -> None:
        self.process.kill()
        self.process.join()
        self.pipe.close()


def fuzz(inputs: int, seed: int, kinds: list[str], report: Callable[[str], None] = print) -> dict[int, str]:
    """Run inputs 0 to `inputs` - 1; gives what failed, by number."""
    failed: dict[int, str] = {}
    counts: Counter[tuple[str, str]] = Counter()
    start = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="atmviz-fuzz-") as folder:
        workers = [Worker(Path(folder) / f"w{index}", kinds, seed) for index in range(min(PROCESSES, inputs))]
        waiting = iter(range(inputs))
        for worker in workers:
            worker.give(next(waiting))
        busy = list(workers)
        while busy:
            wait([worker.pipe for worker in busy], timeout=1)
            for worker in list(busy):
                number, said = worker.number, worker.take()
                if said is None:
                    continue
                kind = kinds[number % len(kinds)]
                if said not in ("read", "refused"):
                    failed[number] = f"{kind}: {said}"
                    report(f"input {number}, {kind}: {said}")
                    said = "failed"
                counts[kind, said] += 1
                if (following := next(waiting, None)) is None:
                    busy.remove(worker)
                else:
                    worker.give(following)
        for worker in workers:
            worker.stop()
    for kind in kinds:
        text = ", ".join(f"{counts[kind, said]} {said}" for said in ("read", "refused", "failed"))
        report(f"{kind}: {text}")
    report(f"{inputs} inputs in {time.monotonic() - start:.0f} s, {len(failed)} failed (seed {seed})")
    return failed


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--inputs", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--kind", action="append", choices=list(KINDS))
    parser.add_argument("--only", type=int)
    chosen = parser.parse_args()
    kinds = chosen.kind or list(KINDS)
    if chosen.only is None:
        sys.exit(bool(fuzz(chosen.inputs, chosen.seed, kinds)))
    with tempfile.TemporaryDirectory(prefix="atmviz-fuzz-") as folder:
        place = Place(Path(folder) / "place")
        print(run_input(place, Guard(Path(folder)), kinds, chosen.seed, chosen.only))


if __name__ == "__main__":
    main()
