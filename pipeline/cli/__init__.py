"""The command `dagtel`."""


def main() -> None:
    """Run the command line; ends the process with its exit code."""
    from pipeline.cli.app import app  # here, so that importing a helper of this package does not build the commands

    app(prog_name="dagtel")
