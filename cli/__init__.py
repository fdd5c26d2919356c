"""The `atmviz` command line. Commands read options, call the library once, show the result."""

import os

# Before torch is loaded: threads that wait by spinning take the cores from those that work, where others work too.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")
