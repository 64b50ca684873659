"""Clients that stream without pause in one event loop, and what is waited for among them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import aiohttp

from core.errors import Unavailable
from deploy.bench.stream import Answer, stream_into

Request = tuple[int, dict[str, Any]]
"""A number for the answer to carry (of its prompt, of its adapter), and the request's body."""


class Crowd:
    """`streams` clients; each asks anew as soon as its answer has ended.

    `request(client, turn)` is what client 0 to `streams` - 1 asks in its turn, from 0.
    """

    def __init__(
        self,
        session: aiohttp.ClientSession,
        request: Callable[[int, int], Request],
        *,
        streams: int,
    ) -> None:
        self._session = session
        self._request = request
        self._stopping = False
        self._under_way: dict[int, Answer] = {}
        self._awaited: tuple[str, asyncio.Future[float]] | None = None
        self._answers: list[Answer] = []
        self._tasks = [asyncio.create_task(self._ask(client)) for client in range(streams)]

    async def first_token_of(self, model: str, *, timeout_s: float = 60.0) -> float:
        """When the next token of `model` arrives (perf_counter). Raises Unavailable."""
        future: asyncio.Future[float] = asyncio.get_running_loop().create_future()
        self._awaited = (model, future)
        try:
            return await asyncio.wait_for(future, timeout_s)
        except TimeoutError as error:
            raise Unavailable(f"No client saw {model} within {timeout_s:.0f} s.") from error
        finally:
            self._awaited = None

    async def until_renewed(self) -> None:
        """Wait until every answer that is under way now has ended."""
        for answer in list(self._under_way.values()):
            await answer.done.wait()

    async def stop(self) -> list[Answer]:
        """Let every client finish its answer; all answers."""
        self._stopping = True
        await asyncio.gather(*self._tasks)
        return self._answers

    async def _ask(self, client: int) -> None:
        turn = 0
        while not self._stopping:
            number, body = self._request(client, turn)
            turn += 1
            answer = self._under_way[client] = Answer(number)
            self._answers.append(answer)
            await stream_into(answer, self._session, body, self._on_token)
            if answer.failure:
                await asyncio.sleep(0.05)  # a dead server must not be hammered

    def _on_token(self, answer: Answer, at_s: float) -> None:
        if self._awaited is not None:
            model, future = self._awaited
            if model in answer.models and not future.done():
                future.set_result(at_s)
