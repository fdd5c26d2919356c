"""The `atmviz` command line. Commands read options, call the library once, show the result."""
