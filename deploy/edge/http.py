"""The server as commands and devices reach it: httpx with time limits, patience, resumed downloads.

Owns transport: what is worth another try and how long to wait for it. Knows no route.
"""

from __future__ import annotations

import os
import random
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import urlsplit

import httpx

from core.errors import Forbidden, Invalid, NotFound, TooLarge, Unauthenticated, Unavailable
from core.files import size_of
from core.plain import say
from core.shown import shown
from deploy.edge.manifest import FileEntry

MAX_WAIT_S = 60.0

Result = TypeVar("Result")


class Broken(Unavailable):
    """It may work at the next try; `after_s` is what the server asked to wait, if it said."""

    def __init__(self, message: str, after_s: float | None = None) -> None:
        super().__init__(message)
        self.after_s = after_s


@dataclass(frozen=True, slots=True)
class Patience:
    """How often to try in a row, how long each time, and how to wait (seconds) in between."""

    tries: int = 10
    timeout_s: float = 60.0
    first_wait_s: float = 0.5
    sleep: Callable[[float], None] = time.sleep
    say: Callable[[str], None] = say

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


ONE_TRY = Patience(tries=1, timeout_s=120.0)


class Server:
    """One Attune server and a key for it; without `patience` everything is tried once."""

    def __init__(self, url: str, key: str, patience: Patience = ONE_TRY) -> None:
        """Raises Invalid for what is no http(s) address, or if there is no key."""
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname or parts.query:
            raise Invalid(f"{url[:200]!r} is not a server's address: http(s)://host[:port].")
        if not key or not key.isascii() or not key.isprintable():
            raise Invalid("Give an API key with --key or in ATTUNE_API_KEY.")
        self.patience = patience
        self.url = url.rstrip("/").removesuffix("/v1")
        # No redirect is followed: the key would go along. Ranges count the bytes of the file.
        headers = {"Authorization": f"Bearer {key}", "Accept-Encoding": "identity"}
        self._http = httpx.Client(
            headers=headers | {"User-Agent": "attune-edge"}, timeout=patience.timeout_s
        )

    def get(self, path: str, query: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """The JSON object of a 2xx; errors as `_answer` raises them."""
        return self.patience.keep_trying(partial(self._json, "GET", path, params=query))

    def post(self, path: str, **sent: Any) -> dict[str, Any]:
        """POST what httpx is to send (`json`, `files`, `data`); like `get`."""
        return self.patience.keep_trying(partial(self._json, "POST", path, **sent))

    def fetch(self, path: str, entry: FileEntry, target: Path) -> None:
        """Download the rest of one file, from where an earlier try broke off; unchecked.

        Raises Broken if the transfer ended early (what came is kept), OSError as the disk does.
        """
        self.patience.keep_trying(
            partial(self._fetch_rest, path, entry, target), partial(size_of, target)
        )

    def _fetch_rest(self, path: str, entry: FileEntry, target: Path) -> None:
        have = size_of(target)
        # The ETag is the digest: if the file changed there, all of it is sent.
        headers = {"Range": f"bytes={have}-", "If-Range": f'"{entry.sha256}"'} if have else {}
        with self._answer("GET", path, headers=headers) as response:
            _write(response, target, entry.size_bytes)
        if size_of(target) < entry.size_bytes:
            raise Broken(
                f"The transfer of {path} broke off at {size_of(target):,} of "
                f"{entry.size_bytes:,} bytes."
            )

    def _json(self, method: str, path: str, **sent: Any) -> dict[str, Any]:
        with self._answer(method, path, **sent) as response:
            response.read()
        try:
            found = response.json()
        except ValueError as error:
            raise Broken(f"{self.url}{path} answered without JSON.") from error
        if not isinstance(found, dict):
            raise Broken(f"{self.url}{path} answered without a JSON object.")
        return found

    @contextmanager
    def _answer(self, method: str, path: str, **sent: Any) -> Iterator[httpx.Response]:
        """A 2xx response, to be read. Raises Broken where another try may help (no connection,
        429, 5xx), else Unauthenticated, Forbidden, NotFound, TooLarge or Invalid."""
        response: httpx.Response | None = None
        try:
            with self._http.stream(method, self.url + path, **sent) as response:
                if not response.is_success:
                    response.read()
                    raise self._refusal(response)
                yield response
        except UnicodeEncodeError as error:
            raise Invalid(
                "What was typed is not valid Unicode; check the terminal's encoding."
            ) from error
        except httpx.HTTPError as error:
            reason = str(error)[:200] or type(error).__name__
            if response is not None:
                raise Broken(f"The connection to {self.url} broke ({reason}).") from error
            raise Broken(
                f"No answer from {self.url} ({reason}). Is it the server's address, and is "
                "`attune serve` running there?"
            ) from error

    def _refusal(self, response: httpx.Response) -> Exception:
        status = response.status_code
        try:
            problem = response.json()["error"]
            told = shown(str(problem["message"])[:1_000])  # in one line
            code = str(problem.get("code"))
        except (ValueError, LookupError, TypeError, AttributeError):
            told, code = f"status {status}", "refused"
        if status == 429 or status >= 500:
            after = response.headers.get("Retry-After", "")  # a date there is not read
            after_s = float(after) if after.isdecimal() else None
            return Broken(f"{self.url} cannot do it now: {told}", after_s)
        if 300 <= status < 400:
            where = response.headers.get("Location", "elsewhere")
            return Invalid(f"{self.url} sends us on to {where[:200]}; name that address instead.")
        if status == 401:
            return Unauthenticated(f"{self.url} does not know this key: {told}", code=code)
        kinds = {403: Forbidden, 404: NotFound, 413: TooLarge}
        return kinds.get(status, Invalid)(told, code=code)


def _write(response: httpx.Response, target: Path, most_bytes: int) -> None:
    """What comes, as it comes: none of it is lost when the connection breaks."""
    with target.open("ab" if response.status_code == 206 else "wb") as file:
        for chunk in response.iter_raw():
            file.write(chunk)
            if file.tell() >= most_bytes:
                break
        file.flush()
        os.fsync(file.fileno())
