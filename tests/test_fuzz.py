"""The fuzzer itself: it must fail on what it promises to find, and let whole inputs be read."""

import importlib.util
import random
import re
import subprocess
import sys
from pathlib import Path

FUZZ = Path(__file__).with_name("fuzz.py")
KINDS = ("checkpoint", "recording", "recipe", "annotations", "mask", "image")
# Kinds that behave as inputs must not, in processes of the fuzzer; each input is of the next kind.
PLANTED = """
import ctypes, os, signal, socket, subprocess, sys, time
from pathlib import Path
sys.path.insert(0, {folder!r})
import fuzz
from atmviz.errors import AtmvizError

def fine(place, draw): (place.out / "figure.png").write_text("")
def refused(place, draw): raise AtmvizError("got this, expected that")
def raises(place, draw): raise KeyError("gone")
def hangs(place, draw): time.sleep(60)
def crashes(place, draw): os.kill(os.getpid(), signal.SIGSEGV)
def grows(place, draw): ctypes.memset(ctypes.create_string_buffer(300_000_000), 1, 300_000_000)
def writes(place, draw): Path({outside!r}).write_text("")
def links(place, draw): os.symlink("/", {outside!r} + "-link")
def connects(place, draw): socket.socket().connect(("127.0.0.1", 9))
def starts(place, draw): subprocess.run(["true"])
def reads(place, draw): Path(fuzz._SECRET).read_text()
def rambles(place, draw): raise AtmvizError("one line\\nand another")

names = "fine refused raises hangs crashes grows writes links connects starts reads rambles".split()
fuzz.KINDS = {{name: globals()[name] for name in names}}
fuzz.SECONDS, fuzz.GIGABYTES, fuzz.PROCESSES = 1, 0.2, 1
fuzz.Place._prepare = lambda place: None
for number, said in fuzz.fuzz(len(names), 0, names, lambda text: None).items():
    print(names[number], said)
"""


def test_what_must_not_happen_is_found(tmp_path):
    outside = tmp_path / "outside"
    code = PLANTED.format(folder=str(FUZZ.parent), outside=str(outside))
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=200)
    assert done.stderr == ""
    found = dict(line.split(" ", 1) for line in done.stdout.splitlines())
    assert {"fine", "refused"} & found.keys() == set()
    expected = {
        "raises": "KeyError",
        "hangs": "took over",
        "crashes": "signal",
        "grows": "grew",
        "writes": "outside",
        "links": "os.symlink",
        "connects": "socket.connect",
        "starts": "subprocess.Popen",
        "reads": "read /etc/hostname",
        "rambles": "many lines",
    }
    assert {name: text for name, text in expected.items() if text not in found.get(name, "")} == {}


def test_a_few_inputs_of_each_kind_end_well():
    command = [sys.executable, FUZZ, "--inputs", "72", "--seed", "7"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=250)
    assert done.returncode == 0, done.stdout + done.stderr
    counts = dict(line.split(": ") for line in done.stdout.splitlines() if ": " in line)
    assert {kind: sum(map(int, re.findall(r"\d+", text))) for kind, text in counts.items()} == dict.fromkeys(KINDS, 12)


def test_changes_follow_from_the_draw_and_change_something():
    spec = importlib.util.spec_from_file_location("fuzz", FUZZ)
    fuzz = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(fuzz)
    data, value = bytes(range(256)) * 4, {"a": [1, {"b": None}], "c": "x"}
    for number in range(50):
        first, second = (fuzz.change_bytes(data, random.Random(number)) for _ in range(2))
        assert first == second
        assert repr(fuzz.change_values(value, random.Random(number))) == repr(
            fuzz.change_values(value, random.Random(number))
        )
    changed = [fuzz.change_bytes(data, random.Random(number)) != data for number in range(200)]
    assert sum(changed) > 150
    assert value == {"a": [1, {"b": None}], "c": "x"}
