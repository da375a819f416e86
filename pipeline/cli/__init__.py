"""The command `dagtel`."""

import gc
import sys


def main() -> None:
    """Run the command line; ends the process with its exit code."""
    gc.disable()  # a start makes a hundred thousand objects that stay, and no rubbish; `run_service` turns it on again
    from pipeline.cli.app import COMMANDS, commands  # here: importing a helper of this package builds no commands

    named = sys.argv[1] if len(sys.argv) > 1 else ""
    commands([named] if named in COMMANDS else COMMANDS)(prog_name="dagtel")
