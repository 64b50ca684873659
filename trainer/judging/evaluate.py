"""What a candidate is worth, measured on data it was not trained on.

Owns which figures are taken and on what. Must not know: which of them are good enough, how the
model computes them.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Sequence
from itertools import compress, islice
from pathlib import Path

from core.errors import Invalid
from feedback.token_ids import Ids
from feedback.types import Label, Pair
from trainer.judging.bootstrap import mean_interval, preference_margin
from trainer.judging.drawn import ANSWER_TOKENS, Asked, Drawn, draw, greedy
from trainer.judging.faults import faults
from trainer.judging.neutral import is_readable, neutral_text, passages
from trainer.judging.suite import SuiteItem
from trainer.judging.taste import taste
from trainer.model.encoding import Tokens, tokens_of
from trainer.model.perplexity import costs, read
from trainer.model.sampling import Answer, answers, end_tokens
from trainer.model.scoring import kl_to_base, logprobs, readable
from trainer.model.warm import WarmModel
from trainer.types import (
    AnswerFaults,
    Evaluation,
    Interval,
    NeutralText,
    SuiteResult,
    Taste,
)

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
    learnt: Sequence[Label | Pair] = (),
) -> Evaluation:
    """Measure the adapter in `candidate` against the one in `live`, or the base without one.

    `labels` and `pairs` are held out: no prompt of theirs was trained on; items too long for
    the model are left out. `learnt` is what was trained on, which with them says what people
    like. What is sampled is drawn once, for all figures that need it.
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
    ups: list[_Said] = [(ids[0], ids[1]) for label, ids in labelled if label.desirable]
    downs: list[_Said] = [(ids[0], ids[1]) for label, ids in labelled if not label.desirable]
    chosen: list[_Said] = [(ids[0], ids[1]) for _, ids in paired]
    rejected: list[_Said] = [(ids[0], ids[2]) for _, ids in paired]
    held_out: list[Asked] = [(tokens[0], label.prompt) for label, tokens in labelled]
    held_out += [(tokens[0], pair.prompt) for pair, tokens in paired]
    drawn = draw(model, candidate, live, held_out, suite, seed)
    divergences = kl_to_base(
        model,
        [(prompt, answer.ids) for prompt, answer in zip(drawn.asked, drawn.after, strict=True)],
        candidate,
    )
    usual, own = _mean_tokens(drawn.before), _mean_tokens(drawn.after)
    liked = [ids for _, ids in (*ups, *chosen)]
    return Evaluation(
        margin=_margin(model, candidate, live, (ups, downs, chosen, rejected), seed),
        kl_to_base=statistics.fmean(divergences) if divergences else 0.0,
        length_ratio=own / usual if usual else 1.0,
        suite=_suite(model, drawn, live, suite, seed) if suite else None,
        held_out_labels=len(labelled),
        held_out_pairs=len(paired),
        samples=drawn.samples(),
        length_wanted=statistics.fmean(map(len, liked)) / usual if liked and usual else None,
        answer_tokens=own,
        faults=_faults(drawn, suite, _share_cut(model, liked), seed),
        neutral=_neutral(model, candidate, live, seed),
        taste=_taste(model, drawn, [*learnt, *labels, *pairs], seed),
        seconds=time.monotonic() - began_s,
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
    model: WarmModel, drawn: Drawn, live: Path | None, suite: Sequence[SuiteItem], seed: int
) -> SuiteResult:
    new, old = _passed(suite, drawn.greedy_after), _passed(suite, drawn.greedy_before)
    base = old
    if live is not None:
        base = _passed(suite, greedy(model, None, drawn.questions[: len(suite)], seed))
    kinds = sorted({item.kind for item in suite})
    return SuiteResult(
        candidate=statistics.fmean(new),
        reference=statistics.fmean(old),
        difference=mean_interval([float(a) - b for a, b in zip(new, old, strict=True)], seed),
        by_kind={kind: (_share(new, suite, kind), _share(old, suite, kind)) for kind in kinds},
        base=statistics.fmean(base),
    )


def _passed(suite: Sequence[SuiteItem], found: Sequence[Answer]) -> list[bool]:
    return [
        item.passes(answer.text, len(answer.ids), answer.ended)
        for item, answer in zip(suite, found, strict=False)
    ]


def _faults(
    drawn: Drawn, suite: Sequence[SuiteItem], endless_wanted: float, seed: int
) -> AnswerFaults | None:
    # How a question is answered that the reference cannot answer either says nothing.
    counts = [*_passed(suite, drawn.greedy_before), *[True] * len(drawn.questions)]
    before = [*drawn.before, *compress(drawn.greedy_before, counts)]
    after = [*drawn.after, *compress(drawn.greedy_after, counts)]
    return faults(before, after, endless_wanted, seed)


def _share_cut(model: WarmModel, said: Sequence[Ids]) -> float:
    """Of answers people were given: those that did not end, or later than a drawn one may."""
    if not said:
        return 0.0
    with model.adapted(None) as base:
        ends = end_tokens(model, base)
    # A template may put a line break behind the end token.
    return statistics.fmean(len(ids) >= ANSWER_TOKENS or ends.isdisjoint(ids[-2:]) for ids in said)


def _share(passed: Sequence[bool], suite: Sequence[SuiteItem], kind: str) -> float:
    return statistics.fmean(ok for ok, item in zip(passed, suite, strict=True) if item.kind == kind)


def _neutral(model: WarmModel, candidate: Path, live: Path | None, seed: int) -> NeutralText | None:
    texts = passages()
    read_as = read(model, texts)
    kept = [
        ids
        for text, ids, nats in zip(texts, read_as, costs(model, read_as, None), strict=True)
        if len(ids) > 1 and is_readable(text, nats)
    ]
    new, old, base = (costs(model, kept, adapter) for adapter in (candidate, live, None))
    return neutral_text(new, old, base, [len(ids) - 1 for ids in kept], seed)


def _taste(
    model: WarmModel, drawn: Drawn, judged: Sequence[Label | Pair], seed: int
) -> Taste | None:
    liked: list[Ids] = []
    disliked: list[Ids] = []
    for one in judged:
        said = (one.chosen, one.rejected) if isinstance(one, Pair) else (one.completion,)
        if (tokens := _readable(model, one, *said)) is None:
            continue
        if isinstance(one, Pair):
            liked.append(tokens[1])
            disliked.append(tokens[2])
        else:
            (liked if one.desirable else disliked).append(tokens[1])
    before, after = ([answer.ids for answer in said] for said in (drawn.before, drawn.after))
    return taste(liked, disliked, before, after, seed)


def _mean_tokens(answers: Sequence[Answer]) -> float:
    return statistics.fmean(len(answer.ids) for answer in answers) if answers else 0.0
