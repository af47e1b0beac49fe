"""The commands `distill` and `distill precompute`; knows their names alone."""

import typer

from engine import cli_precompute, cli_train

app = typer.Typer(rich_markup_mode=None)
app.callback(invoke_without_command=True, epilog=cli_train.EPILOG)(cli_train.train)
app.command("precompute", epilog=cli_precompute.EPILOG)(cli_precompute.precompute)
