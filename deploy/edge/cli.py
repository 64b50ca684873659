"""`attune edge`: chat, serve, sync, pull, info. Each loads what it needs when it runs."""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path

from core.errors import AttuneError
from core.plain import say

LAYOUTS = ("merged", "base+adapters")
PRECISIONS = ("fp32", "int8", "int4")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; the exit status. Our own errors become one line on stderr and status 1."""
    options = _parser().parse_args(arguments)
    try:
        return int(options.run(options))
    except AttuneError as error:
        say(f"error: {error.message}", error=True)
        return 1
    except KeyboardInterrupt:
        return 130


def _chat(options: argparse.Namespace) -> int:
    from deploy.edge.answering import Answering
    from deploy.edge.chat import Chat
    from deploy.edge.engine import Engine
    from deploy.edge.installed import Installation
    from deploy.edge.store import Store
    from deploy.edge.types import Sampling

    installation = Installation(options.dir)
    model = options.adapter or installation.usual().name
    installation.find(model)
    sampling = Sampling(
        temperature=options.temperature, max_tokens=options.max_tokens, seed=options.seed
    )
    engine, store = Engine(installation), Store(installation.database)
    answering = Answering(installation, engine, store)
    write = partial(say, end="")
    Chat(installation, answering, store, model, sampling, write).run(_lines())
    return 0


def _serve(options: argparse.Namespace) -> int:
    from deploy.edge.installed import Installation
    from deploy.edge.serve import serve

    serve(Installation(options.dir), options.host, options.port, options.key or None)
    return 0


def _sync(options: argparse.Namespace) -> int:
    from deploy.edge.http import Patience, Server
    from deploy.edge.installed import Installation
    from deploy.edge.store import Store
    from deploy.edge.sync import Report, sync

    server = Server(options.to, options.key, Patience())
    store = Store(Installation(options.dir).database)
    report = Report()
    try:
        sync(store, options.dir, server, report)
    finally:
        say(report)
        if report.rejected:
            say(f"`attune edge info {options.dir}` says why items were rejected.")
    return 0 if report.left == 0 and report.rejected == 0 else 1


def _pull(options: argparse.Namespace) -> int:
    from deploy.edge.http import Patience, Server
    from deploy.edge.pull import Puller

    server = Server(options.source, options.key, Patience())
    come = Puller(options.dir, server).pull(options.adapter, options.layout, options.precision)
    say(f"Now installed: {', '.join(come)}." if come else "Nothing new.")
    return 0


def _info(options: argparse.Namespace) -> int:
    from deploy.edge.info import inspect, told
    from deploy.edge.installed import Installation

    found = inspect(Installation(options.dir))
    say(json.dumps(found, indent=2) if options.json else told(found))
    return 0 if found["whole"] else 1


def _lines() -> Iterator[str]:
    """The lines typed, with a prompt where a person types them."""
    while True:
        try:
            yield input("> " if sys.stdin.isatty() else "")
        except EOFError:
            return


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="attune edge", description="Run an exported model on this device."
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    chat = commands.add_parser("chat", help="talk to the model in the terminal")
    chat.set_defaults(run=_chat)
    chat.add_argument("--adapter", help="adapter or version (NAME or NAME@N)")
    chat.add_argument("--temperature", type=float, help="0 is greedy; default: the export's own")
    chat.add_argument("--max-tokens", type=int, help="longest answer in tokens")
    chat.add_argument("--seed", type=int, help="repeat the same answers")

    serve = commands.add_parser("serve", help="answer OpenAI-compatible requests")
    serve.set_defaults(run=_serve)
    serve.add_argument("--host", default="127.0.0.1", help="address to listen on (%(default)s)")
    serve.add_argument("--port", type=int, default=8080, help="port, 0 for any (%(default)s)")
    key = os.environ.get("ATTUNE_EDGE_KEY")
    serve.add_argument("--key", default=key, help="the key clients must send (ATTUNE_EDGE_KEY)")

    sync = commands.add_parser("sync", help="send answers and feedback to the server")
    sync.set_defaults(run=_sync)
    sync.add_argument("--to", required=True, metavar="URL", help="the server")

    pull = commands.add_parser("pull", help="fetch newer versions from the server")
    pull.set_defaults(run=_pull)
    pull.add_argument("--from", dest="source", required=True, metavar="URL", help="the server")
    pull.add_argument("--adapter", help="which adapter; default: those installed")
    pull.add_argument("--layout", choices=LAYOUTS, help="for a new folder")
    pull.add_argument("--precision", choices=PRECISIONS, help="for a new folder")

    info = commands.add_parser("info", help="what is installed, whole, and not yet synced")
    info.set_defaults(run=_info)
    info.add_argument("--json", action="store_true", help="everything, as JSON")

    key, said = os.environ.get("ATTUNE_API_KEY", ""), "an API key with the scope 'edge'"
    for command in (sync, pull):
        command.add_argument("--key", default=key, help=f"{said} (ATTUNE_API_KEY)")
    for command in (chat, serve, sync, pull, info):
        command.add_argument("dir", type=Path, metavar="DIR", help="the export's folder")
    return parser
