"""The `attune` command. Importing it loads no torch, no vllm, no trl."""

from __future__ import annotations

import sys

import typer
from rich.console import Console
from rich.text import Text

from core.errors import AttuneError
from deploy.cli import adapters, bench, demo, edge, export, runs, serve, tenants

app = typer.Typer(
    name="attune",
    help="A server that learns: serve one model to many tenants, learn from their feedback, "
    "prove each new version better, swap it in without dropping a request.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
serve.register(app)
demo.register(app)
edge.register(app)
app.add_typer(tenants.tenants, name="tenants")
app.add_typer(tenants.keys, name="keys")
app.add_typer(adapters.app, name="adapters")
app.add_typer(runs.app, name="runs")
export.register(app)
app.add_typer(bench.app, name="bench")


def main() -> None:
    """Run the command line; our own errors become one line and exit status 1."""
    try:
        app()
    except AttuneError as error:
        Console(stderr=True).print(
            Text.assemble(("error: ", "red"), error.message), highlight=False, soft_wrap=True
        )
        sys.exit(1)


if __name__ == "__main__":
    main()
