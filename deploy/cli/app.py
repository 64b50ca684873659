"""The `attune` command. Importing it loads no torch, no vllm, no trl."""

from __future__ import annotations

import os
import sys
from typing import Annotated

import typer
from rich.text import Text

from core.errors import AttuneError
from core.settings import Settings
from deploy.cli import adapters, bench, export, imports, runs, tenants
from deploy.terminal import errors

_REST = {"allow_extra_args": True, "ignore_unknown_options": True}

app = typer.Typer(
    name="attune",
    help="A server that learns: serve one model to many tenants, learn from their feedback, "
    "prove each new version better, swap it in without dropping a request.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)


@app.command("serve", context_settings=_REST)
def serve(
    context: typer.Context,
    model: Annotated[
        str | None, typer.Option(help="Hugging Face id or path; default: the shipped model.")
    ] = None,
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="Port to listen on.")] = 8000,
    trainer: Annotated[bool, typer.Option(help="Start and supervise a trainer.")] = True,
) -> None:
    """Serve the model and learn from feedback. Every flag of `vllm serve` may follow."""
    from deploy.processes.supervisor import serve_all

    if model is not None:
        os.environ["ATTUNE_MODEL"] = model  # the engine's processes and the trainer read it too
    serve_all(Settings(), host, port, context.args, with_trainer=trainer)


@app.command("trainer")
def trainer() -> None:
    """Run a trainer alone; it needs only the database and the artifact store."""
    from deploy.processes.supervisor import train_until_told

    train_until_told(Settings())


@app.command("demo")
def demo(
    keep: Annotated[bool, typer.Option(help="Leave the server up afterwards.")] = False,
) -> None:
    """Serve, rate, learn, gate, swap: with the shipped model, on this machine."""
    from deploy.demo.loop import run_demo

    raise typer.Exit(run_demo(keep=keep))


@app.command("edge", add_help_option=False, context_settings=_REST)
def edge(context: typer.Context) -> None:
    """Run an exported model on a device: chat, serve, sync, pull, info."""
    from deploy.edge.cli import main

    raise typer.Exit(main(context.args))


app.add_typer(tenants.tenants, name="tenants")
app.add_typer(tenants.keys, name="keys")
app.add_typer(adapters.app, name="adapters")
app.add_typer(runs.app, name="runs")
app.add_typer(imports.app, name="import")
app.command("export")(export.export)
app.add_typer(bench.app, name="bench")


def main() -> None:
    """Run the command line; our own errors become one line and exit status 1."""
    try:
        app()
    except AttuneError as error:
        errors.print(Text.assemble(("error: ", "red"), error.message), soft_wrap=True)
        sys.exit(1)


if __name__ == "__main__":
    main()
