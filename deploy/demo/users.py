"""The demo's people: they ask through the stock openai client, and one of them has a taste."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Self

import openai

from deploy.demo.world.questions import Question, ask, facts_right, style_of

TEMPERATURE = 0.7
MAX_TOKENS = 96


@dataclass(frozen=True, slots=True)
class Answered:
    """A question with the answer it got and the version that says it gave it.

    `mixed` is true of a stream whose chunks name another version.
    """

    question: Question
    id: str
    text: str
    version: str
    greedy: bool = False
    mixed: bool = False


@dataclass(frozen=True, slots=True)
class Score:
    """Shares of a set of answers: in the preferred style, with right facts."""

    preferred: float
    facts: float


def ask_one(
    client: openai.OpenAI, question: Question, model: str, *, greedy: bool = False
) -> Answered:
    """One question, answered in one piece."""
    raw = client.chat.completions.with_raw_response.create(**request(question, model, greedy))
    answer = raw.parse()
    version = raw.headers.get("x-attune-version", "")
    return Answered(question, answer.id, answer.choices[0].message.content or "", version, greedy)


def ask_many(
    client: openai.OpenAI,
    questions: Sequence[Question],
    model: str,
    *,
    at_once: int = 16,
    on_answer: Callable[[], None] = lambda: None,
) -> list[Answered]:
    """Many questions, `at_once` in flight."""

    def one(question: Question) -> Answered:
        answered = ask_one(client, question, model)
        on_answer()
        return answered

    with ThreadPoolExecutor(at_once) as pool:
        return list(pool.map(one, questions))


def likes(answered: Answered, taste: str) -> bool:
    """The user's thumb: up for an answer in the preferred style whose facts are right."""
    return style_of(answered.text) == taste and facts_right(answered.question, answered.text)


def score(answers: Sequence[Answered], taste: str) -> Score:
    """How a set of answers does."""
    return Score(
        preferred=sum(style_of(a.text) == taste for a in answers) / len(answers),
        facts=sum(facts_right(a.question, a.text) for a in answers) / len(answers),
    )


class Crowd:
    """Background clients that ask without pause inside `with`, and watch every streamed answer."""

    def __init__(
        self,
        client: openai.OpenAI,
        models: Sequence[str],
        *,
        clients: int = 2,
    ) -> None:
        self._client = client
        self._models = models
        self._stop = threading.Event()
        self.seen: list[Answered] = []
        self.failures: list[str] = []
        self.first_seen_at: dict[str, float] = {}
        self._threads = [
            threading.Thread(target=self._ask, args=(number,), daemon=True)
            for number in range(clients)
        ]

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join(60)

    def _ask(self, number: int) -> None:
        rng = random.Random(1000 + number)
        turn = 0
        while not self._stop.is_set():
            turn += 1
            question = ask(rng, "train")
            model = self._models[turn % len(self._models)]
            try:
                self.seen.append(self._stream(question, model, greedy=turn % 2 == 0))
            except (openai.OpenAIError, ValueError) as error:
                self.failures.append(f"{type(error).__name__}: {error}")

    def _stream(self, question: Question, model: str, *, greedy: bool) -> Answered:
        raw = self._client.chat.completions.with_raw_response.create(
            **request(question, model, greedy), stream=True
        )
        version = raw.headers.get("x-attune-version", "")
        text, id_ = "", ""
        named: set[str] = set()
        finished = False
        for chunk in raw.parse():
            self.first_seen_at.setdefault(version, time.time())
            named.add(chunk.model)
            id_ = chunk.id
            for choice in chunk.choices:
                text += choice.delta.content or ""
                finished = finished or choice.finish_reason is not None
        if not finished:
            raise ValueError("the stream ended without a finish reason")
        return Answered(question, id_, text, version, greedy, mixed=named != {version})


def request(question: Question, model: str, greedy: bool = False) -> dict[str, Any]:
    """The body of a chat request."""
    return {
        "model": model,
        "messages": [{"role": "user", "content": question.text}],
        "temperature": 0.0 if greedy else TEMPERATURE,
        "max_tokens": MAX_TOKENS,
    }
