"""`python -m cli` from a checkout."""

from .app import main

main()
