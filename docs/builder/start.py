"""Runs the commands of docs/start.md in an empty folder, and compares their tables with those of the page."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
WORK = ROOT / "build/start"
TOLERANCE = 0.1
"""How far a number may be from that of the page, relative to 1 or to itself: training differs between processors."""


def steps(page: str) -> list[tuple[list[str], list[str]]]:
    """Return the commands of each block of a page, and the table rows that follow it."""
    parts = re.split(r"^```bash\n(.*?)^```\n", page, flags=re.MULTILINE | re.DOTALL)[1:]
    blocks = zip(parts[::2], parts[1::2], strict=True)
    return [(block.splitlines(), re.findall(r"^\| (?!-).* \|$", text, re.MULTILINE)) for block, text in blocks]


def cells(row: str) -> list[str]:
    """Return the cells of a row of a table, in Markdown or as the command prints it."""
    return [cell.strip() for cell in re.split(r"[|│┃]", row.strip())[1:-1]]


def differences(rows: list[str], printed: str) -> list[str]:
    """Return what rows of a page say that none of the printed rows says; words must be equal, numbers alike."""
    found = [cells(line) for line in printed.splitlines() if re.match(r"[│┃]", line.strip())]
    return [row for row in rows if not any(_alike(cells(row), other) for other in found)]


def _alike(row: list[str], other: list[str]) -> bool:
    """Return whether cells are alike; the last of a printed row may be missing on the page."""
    if len(row) > len(other):
        return False
    number = r"[-+]?\d+(?:\.\d+)?(?![_\w])"
    for first, second in zip(row, other, strict=False):
        if re.sub(number, "", first) != re.sub(number, "", second):
            return False
        for one, two in zip(re.findall(number, first), re.findall(number, second), strict=True):
            if abs(float(one) - float(two)) > TOLERANCE * max(1.0, abs(float(one))):
                return False
    return True


def main() -> None:
    """Run them; exit with a message where one fails or a table differs."""
    shutil.rmtree(WORK, ignore_errors=True)
    WORK.mkdir(parents=True)
    for commands, rows in steps((ROOT / "docs/start.md").read_text("utf-8")):
        printed = ""
        for command in commands:
            words = [sys.executable, "-m", *command.split()]
            done = subprocess.run(words, cwd=WORK, capture_output=True, text=True, check=False)
            if done.returncode:
                sys.exit(f"{command}\n{done.stderr}")
            printed += done.stdout
        if missing := differences(rows, printed):
            sys.exit("docs/start.md says what its commands do not print:\n" + "\n".join([*missing, printed]))


if __name__ == "__main__":
    main()
