"""`attune serve` and `attune trainer`."""

from __future__ import annotations

import os
from typing import Annotated

import typer

from core.settings import Settings


def register(app: typer.Typer) -> None:
    """Add both commands to the command line."""
    app.command(
        "serve",
        context_settings={"allow_extra_args": True, "ignore_unknown_options": True},
    )(serve)
    app.command("trainer")(trainer)


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
    serve_all(Settings(), host, port, list(context.args), with_trainer=trainer)


def trainer() -> None:
    """Run a trainer alone; it needs only the database and the artifact store."""
    from deploy.processes.supervisor import train_until_told

    train_until_told(Settings())
