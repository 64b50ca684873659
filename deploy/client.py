"""Attune's HTTP API for the commands: one small client over httpx, errors as our own."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Annotated, Any

import httpx
import typer

from adapters.artifacts.digest import ADAPTER_FILES
from core.errors import Invalid, Unavailable

Url = Annotated[str, typer.Option(envvar="ATTUNE_URL", help="The server.", show_default=True)]
Key = Annotated[str, typer.Option(envvar="ATTUNE_API_KEY", help="An API key.")]

DEFAULT_URL = "http://127.0.0.1:8000"


class Client:
    """A connection to one server with one key."""

    def __init__(self, url: str, key: str) -> None:
        if not key:
            raise Invalid("Give an API key with --key or in ATTUNE_API_KEY.")
        self._http = httpx.Client(
            base_url=url.rstrip("/").removesuffix("/v1"),
            headers={"authorization": f"Bearer {key}"},
            timeout=120.0,
        )

    def get(self, path: str, params: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """GET; the JSON object of a 2xx, else Invalid with the server's own words."""
        return self._send("GET", path, params=dict(params or {}))

    def post(self, path: str, **options: Any) -> dict[str, Any]:
        """POST; like `get`."""
        return self._send("POST", path, **options)

    def upload(self, adapter: str, folder: Path, **fields: str) -> dict[str, Any]:
        """The adapter's next version, from what PEFT's save_pretrained wrote."""
        with ExitStack() as stack:
            opened = [stack.enter_context((folder / file).open("rb")) for file in ADAPTER_FILES]
            files = [("file", part) for part in zip(ADAPTER_FILES, opened, strict=True)]
            return self.post(f"/v1/adapters/{adapter}/versions", files=files, data=fields)

    def _send(self, method: str, path: str, **options: Any) -> dict[str, Any]:
        try:
            response = self._http.request(method, path, **options)
        except httpx.TransportError as error:
            raise Unavailable(
                f"No server answers at {self._http.base_url}: {error}. Start one with "
                "`attune serve`, or name another with --url."
            ) from error
        try:
            body: dict[str, Any] = response.json()
        except ValueError as error:
            raise Unavailable(
                f"The server answered {response.status_code} without JSON."
            ) from error
        if response.is_error:
            problem = body.get("error", {})
            raise Invalid(str(problem.get("message", body)))
        return body
