"""All commands together. A command parses, calls and prints; what it calls knows nothing of terminals."""

import typer

from pipeline.cli import check, components, dlq, history, run, scenarios

app = typer.Typer(
    no_args_is_help=True,
    pretty_exceptions_show_locals=False,  # they hold secrets
    rich_markup_mode=None,
    help="Takes Dagster's event log and makes traces, metrics, logs and alerts of it.",
)
app.command()(run.run)
app.command()(run.bridge)
app.command()(check.validate)
app.command("print-config")(check.print_config)
app.command()(check.schema)
app.command("components")(components.components)
app.add_typer(dlq.app, name="dlq")
app.command()(scenarios.test)
app.command()(history.replay)
