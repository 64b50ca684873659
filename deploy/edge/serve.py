"""The device's server process: one listening socket, uvicorn, the app, one answering thread."""

from __future__ import annotations

import socket
from functools import partial

import uvicorn

from core.connections import Connections, Limits, room_for_connections
from core.errors import Invalid, Unavailable
from core.logs import keep_logs_clean
from core.plain import say
from deploy.edge.answering import Answering
from deploy.edge.app import edge_app
from deploy.edge.connections import GuardedH11
from deploy.edge.engine import Engine
from deploy.edge.installed import Installation
from deploy.edge.store import Store

LOOPBACK = ("127.0.0.1", "localhost", "::1")


def serve(installation: Installation, host: str, port: int, key: str | None) -> None:
    """Serve until told to end; prints the address once it can be used.

    Raises Invalid for an address that others can reach without a key, Unavailable if it is taken.
    """
    if host not in LOOPBACK and not key:
        raise Invalid(
            f"{host} can be reached by others: give a key with --key or in ATTUNE_EDGE_KEY, which "
            "clients then send as their API key."
        )
    keep_logs_clean()
    store = Store(installation.database)
    engine = Engine(installation)
    answering = Answering(installation, engine, store)
    for name, reason in installation.problems().items():
        say(f"warning: {name} is not used: {reason}", error=True)
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as listening:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listening.bind((host, port))
            listening.listen(128)  # from here on nobody is turned away
        except OSError as error:
            raise Unavailable(f"Cannot listen on {host}:{port}: {error}.") from error
        taken = listening.getsockname()[1]
        shown = f"[{host}]" if ":" in host else host
        names = ", ".join(installation.names())
        say(f"Serving {names} at http://{shown}:{taken}/v1")
        app = edge_app(installation, answering, store, key)
        connections = Connections(Limits(total=room_for_connections()))
        config = uvicorn.Config(
            app,
            http=partial(GuardedH11, connections),  # type: ignore[arg-type]
            loop="asyncio",
            ws="none",
            lifespan="off",
            log_level="warning",
            access_log=False,
            timeout_graceful_shutdown=10,
        )
        uvicorn.Server(config).run(sockets=[listening])
    answering.close()
    store.close()
