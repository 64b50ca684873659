"""`attune edge`, listed beside the other commands; the device's own command line does the work."""

from __future__ import annotations

import typer


def register(app: typer.Typer) -> None:
    """Add the command to the command line."""
    app.command(
        "edge",
        add_help_option=False,
        context_settings={"allow_extra_args": True, "ignore_unknown_options": True},
    )(edge)


def edge(context: typer.Context) -> None:
    """Run an exported model on a device: chat, serve, sync, pull, info."""
    from deploy.edge.cli import main

    raise typer.Exit(main(context.args))
