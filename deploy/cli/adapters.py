"""`attune adapters`: create, push, look, activate, roll back, over HTTP."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.text import Text

from adapters.artifacts.digest import ADAPTER_FILES
from adapters.intake import CONVERT
from core.errors import Forbidden, Invalid
from core.shown import shown
from deploy.edge.http import Server
from deploy.learning_shown import print_learning
from deploy.terminal import DEFAULT_URL, Json, Key, Url, console, show, show_one

app = typer.Typer(help="LoRA adapters and their versions.", no_args_is_help=True)


@app.command("create")
def create(
    name: str,
    domain: Annotated[str | None, typer.Option(help="Serve this domain under 'auto'.")] = None,
    user: Annotated[str | None, typer.Option(help="Serve this end user under 'auto'.")] = None,
    url: Url = DEFAULT_URL,
    key: Key = "",
    as_json: Json = False,
) -> None:
    """Create an adapter; the base model answers for it until a version is live."""
    if domain and user:
        raise Invalid("An adapter is for a domain or for a user, not both.")
    body: dict[str, Any] = {"name": name}
    if domain or user:
        body |= {"scope": "domain" if domain else "user", "subject": domain or user}
    show_one(Server(url, key).post("/v1/adapters", json=body), as_json=as_json)


@app.command("list")
def list_adapters(url: Url = DEFAULT_URL, key: Key = "", as_json: Json = False) -> None:
    """List the tenant's adapters."""
    rows = Server(url, key).get("/v1/adapters")["data"]
    show(rows, ("name", "scope", "subject", "live_version", "created_at"), as_json=as_json)


@app.command("show")
def show_adapter(name: str, url: Url = DEFAULT_URL, key: Key = "", as_json: Json = False) -> None:
    """Show an adapter's versions, the history of its live pointer, and what it is learning."""
    client = Server(url, key)
    adapter = client.get(f"/v1/adapters/{name}")
    learning = None
    with suppress(Forbidden):  # a key that may only ask sees the rest
        learning = client.get(f"/v1/adapters/{name}/learning")
    if as_json:
        show_one({**adapter, "learns": learning}, as_json=True)
        return
    live = adapter["live_version"]
    title = shown(f": live version {live if live is not None else 'base'}")
    console.print(Text.assemble((shown(name), "bold"), title))
    columns = ("version", "state", "source", "rank", "size_bytes", "created_at", "load_error")
    show(adapter["versions"], columns, as_json=False)
    show(adapter["history"], ("at", "version", "previous", "actor", "reason"), as_json=False)
    if learning is not None:
        print_learning(learning)


@app.command("push")
def push(
    folder: Annotated[Path, typer.Argument(help="What PEFT's save_pretrained wrote.")],
    name: Annotated[str, typer.Option(help="The adapter; created if it does not exist.")],
    activate: Annotated[bool, typer.Option(help="Make the version live.")] = True,
    note: Annotated[str, typer.Option(help="A note kept with the version.")] = "",
    url: Url = DEFAULT_URL,
    key: Key = "",
    as_json: Json = False,
) -> None:
    """Upload a PEFT adapter as the next version."""
    missing = [file for file in ADAPTER_FILES if not (folder / file).is_file()]
    if missing:
        pickled = f" {CONVERT}" if (folder / "adapter_model.bin").is_file() else ""
        raise Invalid(
            f"{folder} lacks {', '.join(missing)}; PEFT's save_pretrained writes both.{pickled}"
        )
    client = Server(url, key)
    if name not in {adapter["name"] for adapter in client.get("/v1/adapters")["data"]}:
        client.post("/v1/adapters", json={"name": name})
    with (
        (folder / ADAPTER_FILES[0]).open("rb") as config,
        (folder / ADAPTER_FILES[1]).open("rb") as weights,
    ):
        version = client.post(
            f"/v1/adapters/{name}/versions",
            files=[
                ("file", (ADAPTER_FILES[0], config, "application/json")),
                ("file", (ADAPTER_FILES[1], weights, "application/octet-stream")),
            ],
            data={"activate": str(activate).lower(), "note": note},
        )
    show_one(version, as_json=as_json)


@app.command("activate")
def activate_version(
    name: str,
    version: Annotated[str, typer.Argument(help="A number, or 'base'.")],
    force: Annotated[bool, typer.Option(help="Even if it was rejected or quarantined.")] = False,
    url: Url = DEFAULT_URL,
    key: Key = "",
    as_json: Json = False,
) -> None:
    """Make a version live."""
    if version != "base" and not version.isdigit():
        raise Invalid("The version is a number, or 'base'.")
    number = None if version == "base" else int(version)
    body = {"version": number, "force": force}
    show_one(Server(url, key).post(f"/v1/adapters/{name}/activate", json=body), as_json=as_json)


@app.command("rollback")
def roll_back(
    name: str,
    reason: Annotated[str, typer.Option(help="Kept in the history.")] = "",
    url: Url = DEFAULT_URL,
    key: Key = "",
    as_json: Json = False,
) -> None:
    """Back to what was live before."""
    body = {"reason": reason}
    show_one(Server(url, key).post(f"/v1/adapters/{name}/rollback", json=body), as_json=as_json)
