"""The answers that are drawn to judge a candidate: once, for every figure that needs them.

Owns what is asked and how many tokens an answer may have. Must not know: what is made of them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from trainer.judging.suite import SuiteItem
from trainer.model.encoding import encode_prompt
from trainer.model.sampling import Answer, answers
from trainer.model.warm import WarmModel
from trainer.types import Prompt

OPEN_PROMPTS = 64
"""Answers drawn at temperature 1."""
DRAWS_PER_PROMPT = 3
"""Most of them to one held-out prompt; what is missing then is asked from the suite."""
ANSWER_TOKENS = 96
GREEDY_PROMPTS = 16
"""Prompts that are also answered greedily where there is no suite, which is."""
SAMPLES_SHOWN = 8
_PROMPT_CHARACTERS = 1_000
_ANSWER_CHARACTERS = 2_000


@dataclass(frozen=True, slots=True)
class Open:
    """A prompt as the model reads it, and as people do."""

    ids: tuple[int, ...]
    shown: Prompt


Question = tuple[tuple[int, ...], int]
"""The ids of a prompt and how many tokens its greedy answer may have."""


@dataclass(frozen=True, slots=True)
class Drawn:
    """What was asked, what the reference answers (`before`) and the candidate (`after`).

    `asked` is answered at temperature 1, one and the same seed for both; `questions` greedily.
    """

    asked: tuple[Open, ...]
    before: tuple[Answer, ...]
    after: tuple[Answer, ...]
    questions: tuple[Question, ...]
    greedy_before: tuple[Answer, ...]
    greedy_after: tuple[Answer, ...]

    def samples(self) -> tuple[tuple[str, str, str], ...]:
        """A few whole answers to different prompts: the prompt, before, after."""
        told: dict[str, tuple[str, str, str]] = {}
        for one, old, new in zip(self.asked, self.before, self.after, strict=True):
            text = _as_text(one.shown)
            asked = text if len(text) <= _PROMPT_CHARACTERS else "…" + text[-_PROMPT_CHARACTERS:]
            told.setdefault(text, (asked, _whole(old.text), _whole(new.text)))
        return tuple(islice(told.values(), SAMPLES_SHOWN))


def draw(
    model: WarmModel,
    candidate: Path,
    live: Path | None,
    held_out: Sequence[Open],
    suite: Sequence[SuiteItem],
    seed: int,
) -> Drawn:
    """Ask the candidate and the live version, or the base without one, the same.

    Open prompts are the held-out ones, up to three times each, and then the suite's.
    """
    questions = [Open(tuple(encode_prompt(model.tokenizer, it.prompt)), it.prompt) for it in suite]
    distinct = [*{one.ids: one for one in held_out}.values()]
    own = [*{one.ids: one for one in questions}.values()]
    asked = tuple([*distinct * DRAWS_PER_PROMPT][:OPEN_PROMPTS])
    asked = (*asked, *own[: OPEN_PROMPTS - len(asked)])
    closed: tuple[Question, ...] = tuple(
        (one.ids, item.max_tokens) for one, item in zip(questions, suite, strict=True)
    ) or tuple((one.ids, ANSWER_TOKENS) for one in distinct[:GREEDY_PROMPTS])
    heads = [one.ids for one in asked]
    return Drawn(
        asked,
        answers(model, heads, live, 1.0, ANSWER_TOKENS, seed),
        answers(model, heads, candidate, 1.0, ANSWER_TOKENS, seed),
        closed,
        greedy(model, live, closed, seed),
        greedy(model, candidate, closed, seed),
    )


def greedy(
    model: WarmModel, adapter: Path | None, questions: Sequence[Question], seed: int
) -> tuple[Answer, ...]:
    """The greedy answer to each question; those of one limit share batches."""
    found: dict[int, Answer] = {}
    for limit in sorted({limit for _, limit in questions}):
        rows = [row for row, (_, most) in enumerate(questions) if most == limit]
        said = answers(model, [questions[row][0] for row in rows], adapter, 0.0, limit, seed)
        found.update(zip(rows, said, strict=True))
    return tuple(found[row] for row in range(len(questions)))


def _whole(text: str) -> str:
    return text if len(text) <= _ANSWER_CHARACTERS else text[:_ANSWER_CHARACTERS] + "…"


def _as_text(prompt: Prompt) -> str:
    if isinstance(prompt, str):
        return prompt
    if len(prompt) == 1:
        return str(prompt[0].get("content"))
    return "\n".join(f"{m.get('role')}: {m.get('content')}" for m in prompt)
