"""`attune runs`: what is being learnt, live."""

from __future__ import annotations

import time
from typing import Annotated, Any

import typer
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
from rich.text import Text

from deploy.client import DEFAULT_URL, Client, Key, Url
from deploy.terminal import Json, console, show, show_one

app = typer.Typer(help="Training runs.", no_args_is_help=True)

_ENDED = ("succeeded", "rejected", "failed", "cancelled")


@app.command("list")
def list_runs(
    adapter: Annotated[str | None, typer.Option(help="Only this adapter's.")] = None,
    url: Url = DEFAULT_URL,
    key: Key = "",
    as_json: Json = False,
) -> None:
    """List runs, newest first."""
    rows = Client(url, key).get("/v1/runs", {"adapter": adapter} if adapter else None)["data"]
    columns = ("id", "state", "trigger", "live_before", "version", "created_at", "finished_at")
    show(rows, columns, as_json=as_json)


@app.command("show")
def show_run(run_id: str, url: Url = DEFAULT_URL, key: Key = "", as_json: Json = False) -> None:
    """Show a run with the gate's verdict and its log."""
    client = Client(url, key)
    run = client.get(f"/v1/runs/{run_id}")
    if as_json:
        show_one(run, as_json=True)
        return
    verdict = run.pop("verdict", None)
    show_one(run, as_json=False)
    print_verdict(verdict)
    for event in _events(client, run_id):
        if event["type"] == "message":
            console.print(
                f"{event['created_at'][11:19]} {event['message']}", highlight=False, markup=False
            )


@app.command("start")
def start_run(adapter: str, url: Url = DEFAULT_URL, key: Key = "", as_json: Json = False) -> None:
    """Start a run now, whatever the triggers say."""
    show_one(Client(url, key).post("/v1/runs", json={"adapter": adapter}), as_json=as_json)


@app.command("cancel")
def cancel_run(run_id: str, url: Url = DEFAULT_URL, key: Key = "", as_json: Json = False) -> None:
    """Stop a run at its next step."""
    show_one(Client(url, key).post(f"/v1/runs/{run_id}/cancel"), as_json=as_json)


@app.command("watch")
def watch_run(
    run_id: Annotated[str | None, typer.Argument(help="A run; else the newest.")] = None,
    url: Url = DEFAULT_URL,
    key: Key = "",
) -> None:
    """Follow a run: live loss, steps, verdict."""
    client = Client(url, key)
    if run_id is None:
        newest = client.get("/v1/runs", {"limit": 1})["data"]
        if not newest:
            console.print("No run yet. One starts by itself once there is enough feedback.")
            return
        run_id = str(newest[0]["id"])
    print_verdict(watch(client, run_id)["verdict"])


def watch(client: Client, run_id: str, *, timeout_s: float = 3600.0) -> dict[str, Any]:
    """Show a run's progress until it ends; the run as it ended."""
    deadline = time.monotonic() + timeout_s
    after = 0
    with Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.completed:.0f}/{task.total:.0f}  {task.fields[figures]}"),
        TimeElapsedColumn(),
        console=console,
    ) as progress:
        bars: dict[str, Any] = {}
        while True:
            run = client.get(f"/v1/runs/{run_id}")
            for event in _events(client, run_id, after):
                after = int(event["id"])
                if event["type"] == "message":
                    progress.console.print(f"  {event['message']}", highlight=False, markup=False)
                    continue
                data = event["data"]
                name = event["message"]
                if name not in bars:
                    bars[name] = progress.add_task(name, total=data["steps"], figures="")
                figures = f"loss {data['loss']:.4f}" if "loss" in data else ""
                progress.update(bars[name], completed=data["step"], figures=figures)
            if run["state"] in _ENDED or time.monotonic() > deadline:
                return run
            time.sleep(0.3)


def print_verdict(verdict: dict[str, Any] | None) -> None:
    """The gate's checks, one a line."""
    if verdict is None:
        return
    word = "[green]promoted[/green]" if verdict["promoted"] else "[red]rejected[/red]"
    console.print(f"The gate: {word}")
    for check in verdict["checks"]:
        mark = ("  ✓ ", "green") if check["passed"] else ("  ✗ ", "red")
        console.print(Text.assemble(mark, f"{check['name']}: {check['detail']}"))


def _events(client: Client, run_id: str, after: int = 0) -> list[dict[str, Any]]:
    events: list[dict[str, Any]] = []
    while True:
        page = client.get(f"/v1/runs/{run_id}/events", {"after": after, "limit": 200})
        events += page["data"]
        if not page["has_more"]:
            return events
        after = int(page["last_id"])
