"""`python -m pipeline.cli`: the command `dagtel`, for whoever has the interpreter at hand and not the script."""

from pipeline.cli import main

main()
