"""What a candidate is worth, measured on data it was not trained on.

Owns which figures are taken and on what. Must not know: which of them are good enough, how the
model computes them.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Sequence
from itertools import islice
from pathlib import Path

from core.errors import Invalid
from feedback.token_ids import Ids
from feedback.types import Label, Pair
from trainer.judging.bootstrap import mean_interval, preference_margin
from trainer.judging.suite import SuiteItem
from trainer.model.encoding import Tokens, encode_prompt, tokens_of
from trainer.model.sampling import Answer, answers
from trainer.model.scoring import kl_to_base, logprobs, readable
from trainer.model.warm import WarmModel
from trainer.types import Evaluation, Interval, Prompt, SuiteResult

OPEN_PROMPTS = 64
"""Prompts that are answered at temperature 1 for KL and length."""
SAMPLES_SHOWN = 3
ANSWER_TOKENS = 96
SUITE_TEMPERATURE = 0.0

_Said = tuple[Ids, Ids]
"""The ids of a prompt and of an answer to it."""


def evaluate(
    model: WarmModel,
    *,
    candidate: Path,
    live: Path | None,
    labels: Sequence[Label],
    pairs: Sequence[Pair],
    suite: Sequence[SuiteItem],
    seed: int,
) -> Evaluation:
    """Measure the adapter in `candidate` against the one in `live`, or the base without one.

    `labels` and `pairs` are held out: no prompt of theirs was trained on; items too long for
    the model are left out. KL and length are taken on up to 64 prompts, the held-out ones and
    then the suite's.
    """
    began_s = time.monotonic()
    labelled = [
        (label, tokens)
        for label in labels
        if (tokens := _readable(model, label, label.completion)) is not None
    ]
    paired = [
        (pair, tokens)
        for pair in pairs
        if (tokens := _readable(model, pair, pair.chosen, pair.rejected)) is not None
    ]
    held_out = [
        *((tuple(tokens[0]), label.prompt) for label, tokens in labelled),
        *((tuple(tokens[0]), pair.prompt) for pair, tokens in paired),
    ]
    questions = [(tuple(encode_prompt(model.tokenizer, i.prompt)), i.prompt) for i in suite]
    shown: dict[tuple[int, ...], Prompt] = {}
    for prompt_ids, prompt in (*held_out, *questions):
        shown.setdefault(prompt_ids, prompt)
    asked = [*shown][:OPEN_PROMPTS]
    before = answers(model, asked, live, 1.0, ANSWER_TOKENS, seed)
    after = answers(model, asked, candidate, 1.0, ANSWER_TOKENS, seed)
    divergences = kl_to_base(
        model,
        [(prompt, answer.ids) for prompt, answer in zip(asked, after, strict=True)],
        candidate,
    )
    samples = [
        (_as_text(shown[ids]), old.text, new.text)
        for ids, old, new in zip(asked, before, after, strict=True)
    ]
    ups: list[_Said] = [(ids[0], ids[1]) for label, ids in labelled if label.desirable]
    downs: list[_Said] = [(ids[0], ids[1]) for label, ids in labelled if not label.desirable]
    chosen: list[_Said] = [(ids[0], ids[1]) for _, ids in paired]
    rejected: list[_Said] = [(ids[0], ids[2]) for _, ids in paired]
    usual = _mean_tokens(before)
    return Evaluation(
        margin=_margin(model, candidate, live, (ups, downs, chosen, rejected), seed),
        kl_to_base=statistics.fmean(divergences) if divergences else 0.0,
        length_ratio=_mean_tokens(after) / usual if usual else 1.0,
        suite=_suite(model, candidate, live, suite, seed) if suite else None,
        held_out_labels=len(labelled),
        held_out_pairs=len(paired),
        seconds=time.monotonic() - began_s,
        samples=tuple(samples[:SAMPLES_SHOWN]),
        length_wanted=_length_wanted([*ups, *chosen], before),
    )


def _readable(model: WarmModel, example: Label | Pair, *completions: str) -> Tokens | None:
    """Its ids; None where the template refuses it or one of its answers is too long."""
    try:
        prompt, *said = tokens_of(model.tokenizer, example.ids, example.prompt, *completions)
    except Invalid:
        return None
    return (prompt, *said) if all(readable(model, prompt, ids) for ids in said) else None


def _margin(
    model: WarmModel,
    candidate: Path,
    live: Path | None,
    judged: tuple[list[_Said], list[_Said], list[_Said], list[_Said]],
    seed: int,
) -> Interval:
    ups, downs, chosen, rejected = judged
    if bool(ups) != bool(downs):
        # The reference's own answers stand in for the kind that is missing: its answers to
        # the same prompts shift by chance alone when a candidate has learnt nothing.
        asked = [prompt for prompt, _ in ups or downs]
        usual = answers(model, asked, live, 1.0, ANSWER_TOKENS, seed)
        drawn: list[_Said] = [
            (prompt, answer.ids) for prompt, answer in zip(asked, usual, strict=True)
        ]
        ups, downs = ups or drawn, downs or drawn
    groups = (ups, downs, chosen, rejected)
    items = [item for group in groups for item in group]
    new, old = logprobs(model, items, candidate), logprobs(model, items, live)
    shifts = iter([after - before for after, before in zip(new, old, strict=True)])
    up, down, liked, disliked = ([*islice(shifts, len(group))] for group in groups)
    return preference_margin(
        [a - b for a, b in zip(liked, disliked, strict=True)], up, down, seed=seed
    )


def _suite(
    model: WarmModel, candidate: Path, live: Path | None, suite: Sequence[SuiteItem], seed: int
) -> SuiteResult:
    longest = max(item.max_tokens for item in suite)
    asked = [encode_prompt(model.tokenizer, item.prompt) for item in suite]

    def passed(adapter: Path | None) -> list[bool]:
        found = answers(model, asked, adapter, SUITE_TEMPERATURE, longest, seed)
        return [
            item.passes(answer.text, len(answer.ids), answer.ended)
            for item, answer in zip(suite, found, strict=True)
        ]

    new, old = passed(candidate), passed(live)
    base = old if live is None else passed(None)
    kinds = sorted({item.kind for item in suite})
    return SuiteResult(
        candidate=statistics.fmean(new),
        reference=statistics.fmean(old),
        difference=mean_interval([float(a) - b for a, b in zip(new, old, strict=True)], seed),
        by_kind={kind: (_share(new, suite, kind), _share(old, suite, kind)) for kind in kinds},
        base=statistics.fmean(base),
    )


def _share(passed: Sequence[bool], suite: Sequence[SuiteItem], kind: str) -> float:
    return statistics.fmean(ok for ok, item in zip(passed, suite, strict=True) if item.kind == kind)


def _length_wanted(liked: list[_Said], before: Sequence[Answer]) -> float | None:
    usual = _mean_tokens(before)
    return statistics.fmean(len(ids) for _, ids in liked) / usual if liked and usual else None


def _mean_tokens(answers: Sequence[Answer]) -> float:
    return statistics.fmean(len(answer.ids) for answer in answers) if answers else 0.0


def _as_text(prompt: Prompt) -> str:
    if isinstance(prompt, str):
        return prompt
    if len(prompt) == 1:
        return str(prompt[0].get("content"))
    return "\n".join(f"{m.get('role')}: {m.get('content')}" for m in prompt)
