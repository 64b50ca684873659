"""Clients that stream without pause in one event loop, and what is waited for among them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Any

import aiohttp

from core.errors import Unavailable
from deploy.bench.stream import Answer, stream_into


class StreamingCrowd:
    """`streams` clients; each asks anew as soon as its answer has ended.

    `body(prompt)` is the request for prompt number 0 to `prompts` - 1; clients take them in turn.
    """

    def __init__(
        self,
        session: aiohttp.ClientSession,
        body: Callable[[int], dict[str, Any]],
        *,
        streams: int,
        prompts: int,
    ) -> None:
        self._session = session
        self._bodies = [body(prompt) for prompt in range(prompts)]
        self._stopping = False
        self._under_way: set[int] = set()
        self._awaited: tuple[str, asyncio.Future[float]] | None = None
        self.answers: list[Answer] = []
        self._tasks = [asyncio.create_task(self._ask(number)) for number in range(streams)]

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
        for answer in [self.answers[number] for number in self._under_way]:
            await answer.done.wait()

    async def stop(self) -> Sequence[Answer]:
        """Let every client finish its answer; all answers."""
        self._stopping = True
        await asyncio.gather(*self._tasks)
        return self.answers

    async def _ask(self, number: int) -> None:
        turn = number
        while not self._stopping:
            prompt = turn % len(self._bodies)
            turn += 1
            place = len(self.answers)
            answer = Answer(prompt)
            self.answers.append(answer)
            self._under_way.add(place)
            await stream_into(answer, self._session, self._bodies[prompt], self._on_token)
            self._under_way.discard(place)
            if answer.failure:
                await asyncio.sleep(0.05)  # a dead server must not be hammered

    def _on_token(self, answer: Answer, at_s: float) -> None:
        if self._awaited is not None:
            model, future = self._awaited
            if model in answer.models and not future.done():
                future.set_result(at_s)
