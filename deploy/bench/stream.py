"""One streamed answer as a client sees it: when each piece came, which tokens, whose name.

Reading is kept cheap (aiohttp's C parser, typed msgspec, a handful of fields): the client shares
the machine with the server it measures.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import aiohttp
import msgspec

from core.errors import Unavailable


class _Choice(msgspec.Struct):
    token_ids: list[int] | None = None
    finish_reason: str | None = None


class _Chunk(msgspec.Struct):
    model: str = ""
    choices: list[_Choice] = []
    error: Any = None


_DECODE = msgspec.json.Decoder(_Chunk)
_DATA = b"data: "


@dataclass(slots=True)
class Answer:
    """What came of one request; filled while it streams. Times are perf_counter seconds.

    `prompt` is the number its request was given: of its prompt, or of the adapter asked.
    """

    prompt: int
    began_s: float = 0.0
    ended_s: float = 0.0
    models: set[str] = field(default_factory=set)
    tokens: list[int] = field(default_factory=list)
    arrivals_s: list[float] = field(default_factory=list)
    finished: bool = False
    closed: bool = False
    failure: str = ""
    done: asyncio.Event = field(default_factory=asyncio.Event)

    def whole(self, tokens: int) -> bool:
        """Whether it ended properly, with as many tokens as asked for."""
        return self.finished and self.closed and len(self.tokens) == tokens

    def take(self, line: bytes, at_s: float) -> bool:
        """Read one line of the event stream; whether it brought tokens."""
        if not line.startswith(_DATA):
            return False
        data = line[len(_DATA) :]
        if data.strip() == b"[DONE]":
            self.closed = True
            return False
        try:
            chunk = _DECODE.decode(data)
        except msgspec.DecodeError as error:
            self.failure = f"unreadable event: {error}"
            return False
        if chunk.error is not None:
            self.failure = f"error in the stream: {chunk.error}"
            return False
        self.models.add(chunk.model)
        brought = False
        for choice in chunk.choices:
            if choice.token_ids:
                self.tokens += choice.token_ids
                brought = True
            self.finished = self.finished or choice.finish_reason is not None
        if brought:
            self.arrivals_s.append(at_s)
        return brought


def request_body(model: str, question: str, max_tokens: int) -> dict[str, Any]:
    """A greedy chat request of exactly `max_tokens` tokens that also returns their ids."""
    return {
        "model": model,
        "messages": [{"role": "user", "content": question}],
        "temperature": 0.0,
        "max_tokens": max_tokens,
        "ignore_eos": True,
        "return_token_ids": True,
        "stream": True,
    }


async def whole(session: aiohttp.ClientSession, path: str, body: Mapping[str, Any]) -> bytes:
    """The body of an answer in one piece. Raises Unavailable for any but a 200."""
    try:
        async with session.post(path, json=body) as response:
            content = await response.read()
    except (aiohttp.ClientError, TimeoutError) as error:
        raise Unavailable(f"A request of the benchmark failed: {error!r}") from error
    if response.status != 200:
        raise Unavailable(f"{response.url} answered {response.status}: {content[:200]!r}")
    return content


async def stream_into(
    answer: Answer,
    session: aiohttp.ClientSession,
    body: Mapping[str, Any],
    on_token: Callable[[Answer, float], None] = lambda answer, at_s: None,
) -> None:
    """Stream one answer into `answer`; any failure is noted there, none is raised."""
    rest = b""
    answer.began_s = time.perf_counter()
    try:
        async with session.post("/v1/chat/completions", json=body) as response:
            if response.status != 200:
                text = await response.text()
                answer.failure = f"HTTP {response.status}: {text[:200]}"
                return
            async for piece in response.content.iter_any():
                at_s = time.perf_counter()
                *lines, rest = (rest + piece).split(b"\n")
                for line in lines:
                    if answer.take(line, at_s):
                        on_token(answer, at_s)
    except (aiohttp.ClientError, TimeoutError) as error:
        answer.failure = f"{type(error).__name__}: {error}"
    finally:
        answer.ended_s = time.perf_counter()
        answer.done.set()


async def streamed(
    session: aiohttp.ClientSession, body: Mapping[str, Any], prompt: int = 0
) -> Answer:
    """One answer, streamed to its end. Raises Unavailable if it failed."""
    answer = Answer(prompt)
    await stream_into(answer, session, body)
    if answer.failure or not answer.closed:
        raise Unavailable(f"A request failed: {answer.failure or 'a stream broke off'}")
    return answer


@dataclass(frozen=True, slots=True)
class Judged:
    """Answers counted by what went wrong with them; one answer counts once."""

    answers: int
    failed: int
    truncated: int
    mixed: int


def judge(
    answers: Sequence[Answer],
    own: Mapping[tuple[str, int], Sequence[int]],
    *,
    lengths: Sequence[int],
) -> Judged:
    """Hold every answer against what the version it names says alone.

    `own` maps (model, prompt) to that version's greedy tokens, of which prompt number i asks for
    `lengths[i]`. Failed: no 200, a broken
    connection or an error event. Truncated: no finish reason, no [DONE], or too few tokens.
    Mixed: chunks name more than one model or an unknown one, or a token differs from `own`.
    """
    failed = truncated = mixed = 0
    for answer in answers:
        if answer.failure:
            failed += 1
        elif not answer.whole(lengths[answer.prompt]):
            truncated += 1
        elif len(answer.models) != 1 or answer.tokens != list(
            own.get((next(iter(answer.models)), answer.prompt), ())
        ):
            mixed += 1
    return Judged(len(answers), failed, truncated, mixed)
