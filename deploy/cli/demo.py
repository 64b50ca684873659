"""`attune demo`: one whole turn of the circle, measured."""

from __future__ import annotations

import typer


def register(app: typer.Typer) -> None:
    """Add the command to the command line."""
    app.command("demo")(demo)


def demo(keep: bool = typer.Option(False, help="Leave the server up afterwards.")) -> None:
    """Serve, rate, learn, gate, swap: with the shipped model, on this machine."""
    from deploy.demo.loop import run_demo

    raise typer.Exit(run_demo(keep=keep))
