"""`atmviz cache`: what is kept to save time."""

import re
import time
from typing import Annotated

import typer

from atmviz.errors import count
from atmviz.recording.cache import CacheEntry, cache_entries, remove_entry

from . import options
from .console import print_json, print_rows, say
from .usage import Command, Group

app = typer.Typer(
    cls=Group,
    add_completion=False,
    help="List or remove recordings and compiled kernels that are kept to save time.",
)
_DAY_S = 86_400


@app.command("ls", cls=Command)
def ls(as_json: options.JsonOption = False) -> None:
    """List what the cache keeps, with its size and when it was last used, the latest first."""
    folder, entries = cache_entries()
    if as_json:
        print_json({"folder": str(folder), "entries": [_described(entry) for entry in entries]})
        return
    rows = [(entry.kind, entry.path.name, _size(entry.bytes), _day(entry.used)) for entry in entries]
    total = _size(sum(entry.bytes for entry in entries))
    print_rows(str(folder), ("kind", "name", "size", "last used"), rows, f"{_counted(entries)}, {total}", texts=2)


@app.command("clear", cls=Command)
def clear(
    older_than: Annotated[
        str | None,
        typer.Option(
            "--older-than", help="Remove only what was not used for so long: 30d, 12h. By default everything."
        ),
    ] = None,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    as_json: options.JsonOption = False,
) -> None:
    """Remove recordings and kernels from the cache, after a question; nothing else is lost than time.

    A command that is recording into the cache at that time stops, and says so.
    """
    before = time.time() - _seconds(older_than)
    folder, entries = cache_entries()
    entries = [entry for entry in entries if entry.used <= before]
    size = _size(sum(entry.bytes for entry in entries))
    if entries and not yes and not typer.confirm(f"remove {_counted(entries)}, {size}, from {folder}?", err=True):
        raise typer.Exit(1)
    removed = [entry for entry in entries if remove_entry(entry)]
    if as_json:
        print_json({"folder": str(folder), "removed": [_described(entry) for entry in removed]})
    say(f"removed {_counted(removed)} from {folder}")


def _seconds(age: str | None) -> float:
    match = re.fullmatch(r"(\d{1,5})([dh])", age or "0d")
    if not match:
        raise typer.BadParameter(f"got --older-than {age}, expected days or hours, as in 30d or 12h")
    return int(match[1]) * (_DAY_S if match[2] == "d" else _DAY_S / 24)


def _described(entry: CacheEntry) -> dict[str, object]:
    return {"kind": entry.kind, "path": str(entry.path), "bytes": entry.bytes, "last_used": _day(entry.used)}


def _counted(entries: list[CacheEntry]) -> str:
    kinds = [entry.kind for entry in entries]
    return (
        " and ".join(count(kinds.count(kind), kind) for kind in ("recording", "kernel") if kind in kinds) or "nothing"
    )


def _size(size: int) -> str:
    return f"{size / 1e6:,.1f} MB" if size >= 1e6 else f"{-(-size // 1000)} kB"


def _day(seconds: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M", time.localtime(seconds))
