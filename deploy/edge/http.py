"""The server as a device reaches it: urllib with time limits, patience, and resumed downloads.

Owns transport: what is worth another try and how long to wait for it. Knows no route.
"""

from __future__ import annotations

import http.client
import json
import os
import random
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, TypeVar, cast

from core.errors import (
    Conflict,
    Forbidden,
    Invalid,
    NotFound,
    TooLarge,
    Unauthenticated,
    Unavailable,
)
from deploy.edge.manifest import FileEntry, file_entry

TIMEOUT_S = 60.0
MAX_WAIT_S = 60.0
_CHUNK_BYTES = 1 << 18
_MAX_JSON_BYTES = 64 << 20

Result = TypeVar("Result")


class Response(Protocol):
    """The part of urllib's response that is read here."""

    status: int
    headers: Mapping[str, str]

    def read(self, amount: int = -1, /) -> bytes: ...

    def close(self) -> None: ...


class Broken(Unavailable):
    """It may work at the next try; `after_s` is what the server asked to wait, if it said."""

    def __init__(self, message: str, after_s: float | None = None) -> None:
        super().__init__(message)
        self.after_s = after_s


@dataclass(frozen=True, slots=True)
class Patience:
    """How often to try again in a row, and how to wait (seconds) in between."""

    tries: int = 10
    first_wait_s: float = 0.5
    sleep: Callable[[float], None] = time.sleep
    say: Callable[[str], None] = print

    def keep_trying(
        self, call: Callable[[], Result], progress: Callable[[], object] = lambda: None
    ) -> Result:
        """The result of `call`, tried again after each Broken; the last one is raised.

        Waits double from `first_wait_s` to a minute, less up to half by chance; a longer wait
        that the server asks for is kept to, up to a minute. Counting begins anew whenever
        `progress` has changed.
        """
        turn, reached = 0, progress()
        while True:
            try:
                return call()
            except Broken as error:
                now = progress()
                turn, reached = (turn + 1 if now == reached else 1), now
                if turn >= self.tries:
                    raise
                wait_s = min(self.first_wait_s * 2 ** (turn - 1), MAX_WAIT_S)
                wait_s *= random.uniform(0.5, 1.0)
                wait_s = min(max(wait_s, error.after_s or 0.0), MAX_WAIT_S)
                self.say(
                    f"{error.message} Trying again in {wait_s:.1f} s ({turn}/{self.tries - 1})."
                )
                self.sleep(wait_s)


class Server:
    """One Attune server and a key for it."""

    def __init__(self, url: str, key: str, *, timeout_s: float = TIMEOUT_S) -> None:
        """Raises Invalid for what is no http(s) address, or if there is no key."""
        parts = urllib.parse.urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname or parts.query:
            raise Invalid(f"{url[:200]!r} is not a server's address: http(s)://host[:port].")
        if not key or not key.isascii() or not key.isprintable():
            raise Invalid("Give an API key with --key or in ATTUNE_API_KEY.")
        self.url = url.rstrip("/").removesuffix("/v1")
        self._key = key
        self._timeout_s = timeout_s
        self._opener = urllib.request.build_opener(_AsIs)

    def get(self, path: str, query: Mapping[str, str] | None = None) -> dict[str, Any]:
        """The JSON object of a 2xx; errors as `open` raises them."""
        return self._json("GET", path + (f"?{urllib.parse.urlencode(query)}" if query else ""))

    def post(self, path: str, body: Mapping[str, Any]) -> dict[str, Any]:
        """POST a JSON object; like `get`."""
        return self._json("POST", path, json.dumps(body, ensure_ascii=False).encode())

    def fetch(self, path: str, entry: FileEntry, target: Path) -> None:
        """Download one file, from where an earlier try broke off; its digest is checked.

        Raises Broken if the transfer ended early (what came is kept), Conflict if the whole is not
        the file it should be (it is removed), and OSError as the file system does.
        """
        have = target.stat().st_size if target.is_file() else 0
        if have > entry.size_bytes:
            target.unlink()
            have = 0
        if have < entry.size_bytes:
            self._append(path, entry, target, have)
        elif not have:
            target.touch()
        if file_entry(target) != entry:
            target.unlink()
            raise Conflict(
                f"{path} came, but its SHA-256 is not the one announced; it was thrown away. Try "
                "again; if it happens again, export again on the server.",
                code="digest_mismatch",
            )

    def _append(self, path: str, entry: FileEntry, target: Path, have: int) -> None:
        # The ETag is the digest: if the file changed there, all of it is sent.
        headers = {"Range": f"bytes={have}-", "If-Range": f'"{entry.sha256}"'} if have else {}
        with self.open("GET", path, headers=headers) as response:
            resumed = response.status == 206
            with target.open("ab" if resumed else "wb") as file:
                size = have if resumed else 0
                while size < entry.size_bytes:
                    chunk = self._chunk(response, min(_CHUNK_BYTES, entry.size_bytes - size))
                    if not chunk:
                        break
                    file.write(chunk)
                    size += len(chunk)
                file.flush()
                os.fsync(file.fileno())
        if size < entry.size_bytes:
            raise Broken(
                f"The transfer of {path} broke off at {size:,} of {entry.size_bytes:,} bytes."
            )

    @contextmanager
    def open(
        self,
        method: str,
        path: str,
        body: bytes | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> Iterator[Response]:
        """A 2xx response, to be read. Raises Broken where another try may help (no connection,
        429, 5xx), else Unauthenticated, Forbidden, NotFound, TooLarge or Invalid."""
        request = urllib.request.Request(
            self.url + path,
            data=body,
            method=method,
            headers={
                "Authorization": f"Bearer {self._key}",
                "Content-Type": "application/json",
                "User-Agent": "attune-edge",
                **(headers or {}),
            },
        )
        try:
            response = cast("Response", self._opener.open(request, timeout=self._timeout_s))
        except (OSError, http.client.HTTPException) as error:
            raise Broken(f"No answer from {self.url} ({_reason(error)}).") from error
        try:
            if not 200 <= response.status < 300:
                raise self._refusal(response)
            yield response
        finally:
            response.close()

    def _json(self, method: str, path: str, body: bytes | None = None) -> dict[str, Any]:
        with self.open(method, path, body) as response:
            raw = self._chunk(response, _MAX_JSON_BYTES)
            length = response.headers.get("Content-Length") or ""
        if length.isdecimal() and len(raw) < int(length):
            raise Broken(f"The answer of {self.url} broke off.")
        try:
            found = json.loads(raw)
        except ValueError as error:
            raise Broken(f"{self.url}{path} answered without JSON.") from error
        if not isinstance(found, dict):
            raise Broken(f"{self.url}{path} answered without a JSON object.")
        return found

    def _chunk(self, response: Response, amount: int) -> bytes:
        try:
            return response.read(amount)
        except (OSError, http.client.HTTPException) as error:
            raise Broken(f"The connection to {self.url} broke ({_reason(error)}).") from error

    def _refusal(self, response: Response) -> Exception:
        status = response.status
        try:
            problem = json.loads(response.read(1 << 20))["error"]
            told, code = str(problem["message"])[:1_000], str(problem.get("code"))
        except (
            OSError,
            http.client.HTTPException,
            ValueError,
            KeyError,
            TypeError,
            AttributeError,
        ):
            told, code = f"status {status}", "refused"
        if status == 429 or status >= 500:
            return Broken(
                f"{self.url} cannot do it now: {told}",
                _seconds(response.headers.get("Retry-After")),
            )
        if 300 <= status < 400:
            where = response.headers.get("Location", "elsewhere")
            return Invalid(f"{self.url} sends us on to {where[:200]}; name that address instead.")
        if status == 401:
            return Unauthenticated(f"{self.url} does not know this key: {told}", code=code)
        kinds = {403: Forbidden, 404: NotFound, 413: TooLarge}
        return kinds.get(status, Invalid)(told, code=code)


class _AsIs(urllib.request.HTTPErrorProcessor):
    """Every response as it is: no redirect is followed (the key would go along), none is raised."""

    def http_response(self, request: urllib.request.Request, response: Any) -> Any:
        return response

    https_response = http_response


def _reason(error: Exception) -> str:
    inner = error.reason if isinstance(error, urllib.error.URLError) else error
    return str(inner)[:200] or type(inner).__name__


def _seconds(text: str | None) -> float | None:
    """The seconds of a Retry-After; a date there is not read."""
    return float(text) if text is not None and text.isdecimal() else None
