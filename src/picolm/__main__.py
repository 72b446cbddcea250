"""`python -m picolm` is `picolm`."""

from picolm.cli import main

main()
