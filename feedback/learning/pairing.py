"""From what was said of answers to what can be learnt: labels and preference pairs.

Pure rules: no database, no clock, and the same result whatever the order of the input. Every
feedback item ends up in an example or is counted once under the reason it was left out.
"""

from __future__ import annotations

import json
from bisect import bisect_left
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Literal, cast

from core.ids import AdapterId, CompletionId, FeedbackId
from feedback.learning.judgement import (
    Refused,
    comparison_votes,
    correction_vote,
    target_of,
    vote_on,
)
from feedback.learning.votes import (
    Score,
    Settled,
    Voice,
    Vote,
    pair_vote,
    prompt_key,
    settle,
    votes_of_scores,
)
from feedback.types import Feedback, Interaction, Label, Learnable, Pair

Judged = tuple[Feedback, Interaction]


def learnable(
    adapter_id: AdapterId,
    judged: Iterable[Judged],
    *,
    now_s: float,
    expire_after_s: float | None = None,
    max_share_per_user: float | None = None,
) -> Learnable:
    """What an adapter can learn from feedback and the answers it judges.

    `judged` has one entry per feedback item and answer (a comparison comes several times), as
    `FeedbackStore.effective` yields them. `expire_after_s`: older feedback is left out.
    `max_share_per_user` (0 to 1) for shared adapters: no user alone stands behind more than that
    share of the labels, nor of the pairs; with fewer users than that allows, each has an equal
    share at most. Reasons in `dropped`: other_tenant, other_adapter, expired, not_completed,
    comment, no_such_choice, tool_calls, not_text, empty_answer, unchanged_correction,
    unknown_answer, prompts_differ, same_text, too_few_scores, middling_score, superseded,
    outvoted, contradicted, over_user_share.
    """
    items: dict[FeedbackId, Feedback] = {}
    answers: dict[FeedbackId, dict[CompletionId, Interaction]] = defaultdict(dict)
    for item, interaction in judged:
        items[item.id] = item
        answers[item.id][interaction.id] = interaction
    labels, pairs, scores, reasons = _votes(adapter_id, items, answers, now_s, expire_after_s)
    from_scores, better, unscored = votes_of_scores(scores)
    good_or_bad, unlabelled = settle([*labels, *from_scores])
    preferred, unpaired = settle([*pairs, *better])
    stated = {settled.vote.key for settled in preferred}
    preferred += [one for one in _opposites(good_or_bad) if one.vote.key not in stated]
    kept_labels, kept_pairs = good_or_bad, preferred
    if max_share_per_user is not None:
        kept_labels = _capped(good_or_bad, max_share_per_user)
        kept_pairs = _capped(preferred, max_share_per_user)
    used = {i for settled in (*kept_labels, *kept_pairs) for i in settled.feedback_ids}
    capped = {i: "over_user_share" for s in (*good_or_bad, *preferred) for i in s.feedback_ids}
    why = {**capped, **unscored, **unlabelled, **unpaired, **reasons}
    return Learnable(
        labels=tuple(sorted(map(_label, kept_labels), key=_label_order)),
        pairs=tuple(sorted(map(_pair, kept_pairs), key=_pair_order)),
        dropped=dict(sorted(Counter(why[i] for i in items if i not in used).items())),
    )


def _votes(
    adapter_id: AdapterId,
    items: Mapping[FeedbackId, Feedback],
    answers: Mapping[FeedbackId, Mapping[CompletionId, Interaction]],
    now_s: float,
    expire_after_s: float | None,
) -> tuple[list[Vote], list[Vote], list[Score], dict[FeedbackId, str]]:
    """Votes on answers, votes on pairs, scores, and why an item gave less than it says."""
    reasons: dict[FeedbackId, str] = {}
    labels, pairs, scores = list[Vote](), list[Vote](), list[Score]()
    for feedback_id in sorted(items):
        item, about = items[feedback_id], answers[feedback_id]
        if expire_after_s is not None and item.said_at_s < now_s - expire_after_s:
            reasons[feedback_id] = "expired"
            continue
        if item.kind == "comment":
            reasons[feedback_id] = "comment"
        if item.comparison is not None:
            with _counting(reasons, item):
                pairs += comparison_votes(item, about, adapter_id, reasons)
        if item.correction is not None:
            with _counting(reasons, item):
                pairs.append(correction_vote(item, about, adapter_id))
        if isinstance(item.value, bool | int | float):
            with _counting(reasons, item):
                side = item.value is True
                vote = vote_on(item, target_of(item, about), adapter_id, side)
                if isinstance(item.value, bool):
                    labels.append(vote)
                else:
                    scores.append(Score(item.name, float(item.value), vote))
    return labels, pairs, scores, reasons


@contextmanager
def _counting(reasons: dict[FeedbackId, str], item: Feedback) -> Iterator[None]:
    try:
        yield
    except Refused as refused:
        reasons.setdefault(item.id, str(refused))


def _opposites(labels: Sequence[Settled]) -> list[Settled]:
    """A good and a bad answer to one prompt make a pair too; each answer is in one at most."""
    by_prompt: dict[str, tuple[list[Settled], list[Settled]]] = defaultdict(lambda: ([], []))
    for settled in sorted(labels, key=lambda one: one.vote.order, reverse=True):
        by_prompt[settled.vote.prompt_key][not settled.vote.side].append(settled)
    pairs = []
    for good, bad in by_prompt.values():
        for up, down in zip(good, bad, strict=False):
            vote = pair_vote(up.vote, down.vote, "ratings")
            if vote is not None:
                pairs.append(
                    Settled(
                        vote,
                        up.voices | down.voices,
                        up.feedback_ids | down.feedback_ids,
                        up.interaction_ids | down.interaction_ids,
                    )
                )
    return pairs


def _capped(settled: Sequence[Settled], share: float) -> list[Settled]:
    """Drop the oldest of what one voice alone stands behind until each is within `share`."""
    alone: dict[Voice, list[Settled]] = defaultdict(list)
    for one in settled:
        if len(one.voices) == 1:
            alone[next(iter(one.voices))].append(one)
    if not alone:
        return list(settled)
    together = [one for one in settled if len(one.voices) > 1]
    share = max(share, 1 / len({voice for one in settled for voice in one.voices}))

    def exceeds(cap: int) -> bool:
        kept = len(together) + sum(min(len(ones), cap) for ones in alone.values())
        return cap > share * kept + 1e-9

    # What a cap keeps grows slower and slower with it, so the caps that hold come first.
    cap = bisect_left(range(1, max(map(len, alone.values())) + 1), True, key=exceeds)
    for ones in alone.values():
        ones.sort(key=lambda one: one.vote.order, reverse=True)
    return together + [one for ones in alone.values() for one in ones[:cap]]


def _origin(settled: Settled) -> dict[str, Any]:
    """What labels and pairs have in common."""
    users = {name for _, name in settled.voices}
    prompt = json.loads(settled.vote.prompt_key)
    return {
        "prompt": prompt if isinstance(prompt, str) else tuple(prompt),
        "version": settled.vote.version,
        "end_user": next(iter(users)) if len(users) == 1 else None,
        "at_s": settled.vote.at_s,
        "feedback_ids": tuple(sorted(settled.feedback_ids)),
        "interaction_ids": tuple(sorted(settled.interaction_ids)),
    }


def _label(settled: Settled) -> Label:
    (text,) = settled.vote.texts
    return Label(completion=text, desirable=settled.vote.side, **_origin(settled))


def _pair(settled: Settled) -> Pair:
    first, second = settled.vote.texts
    chosen, rejected = (first, second) if settled.vote.side else (second, first)
    origin = cast(Literal["comparison", "correction", "ratings"], settled.vote.origin)
    return Pair(chosen=chosen, rejected=rejected, origin=origin, **_origin(settled))


def _label_order(label: Label) -> tuple[float, str, str]:
    return label.at_s, prompt_key(label.prompt), label.completion


def _pair_order(pair: Pair) -> tuple[float, str, str, str]:
    return pair.at_s, prompt_key(pair.prompt), pair.chosen, pair.rejected
