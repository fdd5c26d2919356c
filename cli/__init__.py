"""The `atmviz` command line. Commands read options, call the library once, show the result."""

import os

# Before torch is loaded: threads that wait by spinning take the cores from those that work, where others work too, and
# threads that sleep at once wake late. A short spin is within a tenth of the best alone, and six times the default's
# speed where two commands share the cores.
if "OMP_WAIT_POLICY" not in os.environ:
    os.environ.setdefault("GOMP_SPINCOUNT", "1000")

# Before Typer and rich read them: a width that is none would be a traceback, or nothing printed.
for _name in ("COLUMNS", "LINES", "TERMINAL_WIDTH"):
    if not os.environ.get(_name, "1").strip("0").isdecimal():
        del os.environ[_name]
