"""The answers that are drawn to judge a candidate: once, for every figure that needs them.

Owns what is asked and how many tokens an answer may have. Must not know: what is made of them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from feedback.token_ids import Ids
from trainer.judging.suite import SuiteItem
from trainer.model.encoding import encode_prompt
from trainer.model.sampling import Answer, answers
from trainer.model.warm import WarmModel
from trainer.types import Prompt

OPEN_PROMPTS = 64
"""Answers drawn at temperature 1."""
DRAWS_PER_PROMPT = 3
"""To each held-out prompt, before the suite is asked for what is missing."""
ANSWER_TOKENS = 96
GREEDY_PROMPTS = 16
"""Held-out prompts that are also answered greedily, as the suite is."""
SAMPLES_SHOWN = 8
_PROMPT_CHARACTERS = 1_000
_ANSWER_CHARACTERS = 2_000

Asked = tuple[Ids, Prompt]
"""A prompt as the model gets it, and as people read it."""
Question = tuple[Ids, int]
"""A prompt and how many tokens its greedy answer may have."""


@dataclass(frozen=True, slots=True)
class Drawn:
    """What was asked, what the reference answers (`before`) and the candidate (`after`).

    `asked` is answered at temperature 1, one and the same seed for both; `questions` greedily:
    the suite's, in its order, and then some of the held-out prompts. `told` are the prompts of
    `asked` for people.
    """

    asked: tuple[Ids, ...]
    told: tuple[str, ...]
    before: tuple[Answer, ...]
    after: tuple[Answer, ...]
    questions: tuple[Question, ...]
    greedy_before: tuple[Answer, ...]
    greedy_after: tuple[Answer, ...]

    def samples(self) -> tuple[tuple[str, str, str], ...]:
        """A few whole answers to different prompts: the prompt, before, after."""
        found: dict[str, tuple[str, str, str]] = {}
        for text, old, new in zip(self.told, self.before, self.after, strict=True):
            asked = text if len(text) <= _PROMPT_CHARACTERS else "…" + text[-_PROMPT_CHARACTERS:]
            found.setdefault(text, (asked, _whole(old.text), _whole(new.text)))
        return tuple(islice(found.values(), SAMPLES_SHOWN))


def draw(
    model: WarmModel,
    candidate: Path,
    live: Path | None,
    held_out: Sequence[Asked],
    suite: Sequence[SuiteItem],
    seed: int,
) -> Drawn:
    """Ask the candidate and the live version, or the base without one, the same.

    At temperature 1 the held-out prompts, up to three times each, then what the reference can
    answer of the suite, then the held-out ones again.
    """
    questions: list[Asked] = [
        (encode_prompt(model.tokenizer, item.prompt), item.prompt) for item in suite
    ]
    distinct = _once(held_out)
    greedily: list[Question] = [
        (ids, item.max_tokens) for (ids, _), item in zip(questions, suite, strict=True)
    ]
    greedily += [(ids, ANSWER_TOKENS) for ids, _ in distinct[:GREEDY_PROMPTS]]
    usual = greedy(model, live, greedily, seed)
    known = [
        question
        for question, item, said in zip(questions, suite, usual, strict=False)
        if item.passes(said.text, len(said.ids), said.ended)
    ]
    open_ones = [*distinct * DRAWS_PER_PROMPT, *_once(known), *distinct * OPEN_PROMPTS]
    open_ones = open_ones[:OPEN_PROMPTS]
    asked = tuple(ids for ids, _ in open_ones)
    return Drawn(
        asked,
        tuple(_as_text(prompt) for _, prompt in open_ones),
        answers(model, asked, live, 1.0, ANSWER_TOKENS, seed),
        answers(model, asked, candidate, 1.0, ANSWER_TOKENS, seed),
        tuple(greedily),
        usual,
        greedy(model, candidate, greedily, seed),
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


def _once(asked: Sequence[Asked]) -> list[Asked]:
    """Each prompt once, as the model gets it."""
    return [*{tuple(ids): (ids, prompt) for ids, prompt in asked}.values()]


def _whole(text: str) -> str:
    return text if len(text) <= _ANSWER_CHARACTERS else text[:_ANSWER_CHARACTERS] + "…"


def _as_text(prompt: Prompt) -> str:
    if isinstance(prompt, str):
        return prompt
    if len(prompt) == 1:
        return str(prompt[0].get("content"))
    return "\n".join(f"{m.get('role')}: {m.get('content')}" for m in prompt)
