"""From what was said of answers to what can be learnt: labels and preference pairs.

Pure rules: no database, no clock, and the same result whatever the order of the input. Every
feedback item ends up in an example or is counted once under the reason it was left out.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, cast

from core.ids import FeedbackId
from feedback.learning.judgement import Judgement
from feedback.learning.texts import Digest, Texts, of_prompt, prompt_key
from feedback.learning.votes import Settled, Voice, pair_vote, settle, votes_of_scores
from feedback.types import Label, Learnable, Pair


@dataclass(frozen=True, slots=True)
class Agreed:
    """What judgements amount to: labels, pairs, and how many items were left out for what."""

    labels: Sequence[Settled]
    pairs: Sequence[Settled]
    dropped: Mapping[str, int]


def agree(
    judgements: Iterable[Judgement],
    *,
    now_s: float,
    expire_after_s: float | None = None,
    max_share_per_user: float | None = None,
) -> Agreed:
    """What an adapter can learn from what was said of its answers.

    `expire_after_s`: older feedback is left out. `max_share_per_user` (0 to 1) for shared
    adapters: no user alone stands behind more than that share of the labels, nor of the pairs;
    with fewer users than that allows, each has an equal share at most. Reasons in `dropped`:
    those of a judgement, expired, too_few_scores, middling_score, superseded, outvoted,
    contradicted, over_user_share.
    """
    reasons: dict[FeedbackId, str | None] = {}
    heard = list[Judgement]()
    for one in judgements:
        expired = expire_after_s is not None and one.at_s < now_s - expire_after_s
        reasons[one.id] = "expired" if expired else one.reason
        if not expired:
            heard.append(one)
    from_scores, better, unscored = votes_of_scores([s for one in heard for s in one.scores])
    good_or_bad, unlabelled = settle([*(v for one in heard for v in one.labels), *from_scores])
    preferred, unpaired = settle([*(v for one in heard for v in one.pairs), *better])
    stated = {settled.vote.key for settled in preferred}
    preferred += [one for one in _opposites(good_or_bad) if one.vote.key not in stated]
    kept_labels, kept_pairs = good_or_bad, preferred
    if max_share_per_user is not None:
        kept_labels = _capped(good_or_bad, max_share_per_user)
        kept_pairs = _capped(preferred, max_share_per_user)
    used = {i for one in (*kept_labels, *kept_pairs) for v in one.votes for i in v.feedback_ids}
    why = {**unscored, **unlabelled, **unpaired}
    # Whatever is left was settled, and can only be over its user's share.
    dropped = Counter(
        reason or why.get(i, "over_user_share") for i, reason in reasons.items() if i not in used
    )
    return Agreed(kept_labels, kept_pairs, dict(sorted(dropped.items())))


def examples(agreed: Agreed, texts: Texts) -> Learnable:
    """The labels and pairs with the texts that their votes speak of."""
    return Learnable(
        labels=tuple(sorted((_label(one, texts) for one in agreed.labels), key=_label_order)),
        pairs=tuple(sorted((_pair(one, texts) for one in agreed.pairs), key=_pair_order)),
        dropped=agreed.dropped,
    )


def _opposites(labels: Sequence[Settled]) -> list[Settled]:
    """A good and a bad answer to one prompt make a pair too; each answer is in one at most."""
    by_prompt: dict[Digest, tuple[list[Settled], list[Settled]]] = defaultdict(lambda: ([], []))
    for settled in sorted(labels, key=lambda one: one.vote.order, reverse=True):
        by_prompt[of_prompt(settled.vote.prompt)][not settled.vote.side].append(settled)
    pairs = []
    for good, bad in by_prompt.values():
        for up, down in zip(good, bad, strict=False):
            vote = pair_vote(up.vote, down.vote, "ratings")
            if vote is not None:
                pairs.append(Settled(vote, up.votes + down.votes))
    return pairs


def _capped(settled: Sequence[Settled], share: float) -> list[Settled]:
    """Drop the oldest of what one voice alone stands behind until each is within `share`."""
    alone: dict[Voice, list[Settled]] = defaultdict(list)
    together, everybody = list[Settled](), set[Voice]()
    for one in settled:
        voices = one.voices
        everybody |= voices
        (alone[next(iter(voices))] if len(voices) == 1 else together).append(one)
    if not alone:
        return list(settled)
    share = max(share, 1 / len(everybody))

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
    return {
        "version": settled.vote.version,
        "end_user": next(iter(users)) if len(users) == 1 else None,
        "at_s": settled.vote.at_s,
        "feedback_ids": settled.feedback_ids,
        "interaction_ids": settled.interaction_ids,
    }


def _label(settled: Settled, texts: Texts) -> Label:
    prompt, text = texts.of(settled.vote.prompt), texts.of(settled.vote.texts[0])
    ids = None if prompt.ids is None or text.ids is None else (prompt.ids, text.ids)
    side = settled.vote.side
    return Label(prompt.content, text.content, side, ids=ids, **_origin(settled))


def _pair(settled: Settled, texts: Texts) -> Pair:
    prompt, first, second = map(texts.of, (settled.vote.prompt, *settled.vote.texts))
    good, bad = (first, second) if settled.vote.side else (second, first)
    ids = None
    if prompt.ids is not None and good.ids is not None and bad.ids is not None:
        ids = prompt.ids, good.ids, bad.ids
    origin = cast(Literal["comparison", "correction", "ratings"], settled.vote.origin)
    said = _origin(settled)
    return Pair(prompt.content, good.content, bad.content, origin, ids=ids, **said)


def _label_order(label: Label) -> tuple[object, ...]:
    return label.at_s, prompt_key(label.prompt), label.completion, label.ids or ()


def _pair_order(pair: Pair) -> tuple[object, ...]:
    return pair.at_s, prompt_key(pair.prompt), pair.chosen, pair.rejected, pair.ids or ()
