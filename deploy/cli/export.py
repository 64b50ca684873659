"""`attune export`: a model to take away to devices, made by the server, downloaded and checked."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated, Any

import typer

from core.errors import Conflict
from core.shown import shown
from deploy.edge.http import Patience, Server
from deploy.terminal import DEFAULT_URL, Json, Key, Url, console, progress, show_one

_POLL_S = 0.5
_UNDER_WAY = ("queued", "building", "verifying")


def export(
    model: Annotated[str, typer.Argument(help="ADAPTER (its live version), ADAPTER@N, or base.")],
    layout: Annotated[
        str,
        typer.Option(help="merged: one whole model. base+adapters: the base once, small files."),
    ] = "merged",
    precision: Annotated[str, typer.Option(help="fp32, int8 or int4.")] = "int8",
    out: Annotated[
        Path | None, typer.Option(help="Download into this folder; else only make it.")
    ] = None,
    url: Url = DEFAULT_URL,
    key: Key = "",
    as_json: Json = False,
) -> None:
    """Export a model for devices: build, verify, download. Run again to go on after a break."""
    client = Server(url, key)
    asked = {"model": model, "layout": layout, "precision": precision}
    found = _wait(client, client.post("/v1/exports", json=asked), quiet=as_json)
    if found["state"] != "ready":
        why = shown(str(found["error"] or found["message"]))
        raise Conflict(f"The export is {found['state']}: {why}")
    come: list[str] = []
    if out is not None:
        from deploy.edge.download import fetch_export

        patience = Patience(say=(lambda _: None) if as_json else console.print)
        come = fetch_export(Server(url, key, patience), found, out)
    if as_json:
        show_one({**found, "downloaded": come}, as_json=True)
        return
    _show(found, out, come)


def _wait(client: Server, export: dict[str, Any], *, quiet: bool) -> dict[str, Any]:
    """The export once it has ended, its progress shown meanwhile."""
    with progress("{task.percentage:>3.0f}%", hidden=quiet) as screen:
        task = screen.add_task(shown(str(export["message"])), total=1.0)
        while export["state"] in _UNDER_WAY:
            screen.update(
                task, description=shown(str(export["message"])), completed=float(export["progress"])
            )
            time.sleep(_POLL_S)
            export = client.get(f"/v1/exports/{export['id']}")
        screen.update(task, description=shown(str(export["message"])), completed=1.0)
    return export


def _show(export: dict[str, Any], out: Path | None, come: list[str]) -> None:
    figures = (export["adapter_manifest"] or export["manifest"])["verification"]
    row = {
        **{name: export[name] for name in ("id", "model", "layout", "precision")},
        "size_bytes": sum(file["size_bytes"] for file in export["files"]),
        "verified_on": f"{figures['prompts']} prompts ({figures['prompt_source']})",
        "argmax_agreement": f"{figures['argmax_agreement']:.4f}",
        "greedy_equal": f"{figures['greedy_equal']:.4f}",
        "perplexity_difference": f"{figures['perplexity_difference']:+.4f}",
    }
    show_one(row, as_json=False)
    if out is None:
        console.print("Made. Add --out DIR to download it.")
    else:
        console.print(
            f"{out} is complete; {len(come)} files were downloaded. Try it: attune edge chat {out}"
        )
