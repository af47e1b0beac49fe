"""The commands `distill …`; knows their names alone."""

import typer

from engine import cli_precompute

app = typer.Typer(no_args_is_help=True, help="Teach a small model what a large one knows.")
app.command("precompute", epilog=cli_precompute.EPILOG)(cli_precompute.precompute)


@app.callback()
def distill() -> None:
    """Teach a small model what a large one knows."""
