"""`python -m polyprag`: the command line, without an installed script."""

from polyprag.cli import main

main(prog_name="polyprag")
