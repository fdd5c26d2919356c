"""Draws the figures of the pages by the commands below them: `![…](…/NAME.png)`, `atmviz …` draws this figure."""

import re
import shlex
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
SHOWN = r"!\[[^\]]*\]\([./]*(assets/figures/\w+\.png)\)\s+`(atmviz [^`]+)`\s+draws\s+this\s+figure"


def commands() -> dict[str, str]:
    """Return the command of each figure, by its file."""
    return {
        file: line for path in sorted(ROOT.glob("docs/**/*.md")) for file, line in re.findall(SHOWN, path.read_text())
    }


if __name__ == "__main__":
    for file, line in commands().items():
        words = ["bash", "-c", f"{line.replace('atmviz', shlex.quote(sys.executable) + ' -m atmviz', 1)} --out {file}"]
        subprocess.run(words, check=True, cwd=ROOT)
