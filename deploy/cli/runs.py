"""`attune runs`: what is being learnt, live."""

from __future__ import annotations

from contextlib import suppress
from typing import Annotated

import typer

from core.errors import AttuneError
from core.shown import shown
from deploy.edge.http import Server
from deploy.run_progress import in_words, print_samples, print_verdict, run_events, watch
from deploy.terminal import DEFAULT_URL, Json, Key, Url, console, show, show_one

app = typer.Typer(help="Training runs.", no_args_is_help=True)


@app.command("list")
def list_runs(
    adapter: Annotated[str | None, typer.Option(help="Only this adapter's.")] = None,
    url: Url = DEFAULT_URL,
    key: Key = "",
    as_json: Json = False,
) -> None:
    """List runs, newest first."""
    client = Server(url, key)
    rows = client.get("/v1/runs", {"adapter": adapter} if adapter else None)["data"]
    columns = ("id", "state", "trigger", "live_before", "version", "created_at", "finished_at")
    show(rows, columns, as_json=as_json)
    _warn_of_trainer(client)


def _warn_of_trainer(client: Server) -> None:
    """Say on stderr what keeps runs from being carried out, if the server knows of anything."""
    with suppress(AttuneError):
        trainer = client.get("/health", {"verbose": ""}).get("trainer") or {}
        if message := trainer.get("message"):
            typer.echo(f"warning: {message}", err=True)


@app.command("show")
def show_run(run_id: str, url: Url = DEFAULT_URL, key: Key = "", as_json: Json = False) -> None:
    """Show a run with the gate's verdict and its log."""
    client = Server(url, key)
    run = client.get(f"/v1/runs/{run_id}")
    if as_json:
        show_one(run, as_json=True)
        return
    verdict, samples = run.pop("verdict", None), run.pop("samples", [])
    if run.get("recipe"):
        run["recipe"] = in_words(run["recipe"])
    show_one(run, as_json=False)
    print_verdict(verdict)
    print_samples(samples)
    for event in run_events(client, run_id):
        if event["type"] == "message":
            console.print(shown(f"{event['created_at'][11:19]} {event['message']}"))


@app.command("start")
def start_run(adapter: str, url: Url = DEFAULT_URL, key: Key = "", as_json: Json = False) -> None:
    """Start a run now, whatever the triggers say."""
    show_one(Server(url, key).post("/v1/runs", json={"adapter": adapter}), as_json=as_json)


@app.command("cancel")
def cancel_run(run_id: str, url: Url = DEFAULT_URL, key: Key = "", as_json: Json = False) -> None:
    """Stop a run at its next step."""
    show_one(Server(url, key).post(f"/v1/runs/{run_id}/cancel"), as_json=as_json)


@app.command("watch")
def watch_run(
    run_id: Annotated[str | None, typer.Argument(help="A run; else the newest.")] = None,
    url: Url = DEFAULT_URL,
    key: Key = "",
) -> None:
    """Follow a run: live loss, steps, verdict."""
    client = Server(url, key)
    if run_id is None:
        newest = client.get("/v1/runs", {"limit": 1})["data"]
        if not newest:
            console.print("No run yet. One starts by itself once there is enough feedback.")
            return
        run_id = str(newest[0]["id"])
    print_verdict(watch(client, run_id)["verdict"])
