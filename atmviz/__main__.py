"""`python -m atmviz` is the command line."""

from importlib import import_module

if __name__ == "__main__":
    import_module("atmviz_cli.app").main()  # the library itself imports nothing of it
