"""Who said what of which text, and how disagreement is settled: pure rules for pairing.

A vote is one voice's judgement with two possible sides: an answer is good or bad, or one of two
answers is better. Both are settled alike.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from statistics import fmean, pstdev
from typing import TypeVar

from msgspec import Struct
from msgspec.structs import replace

from core.ids import CompletionId, FeedbackId
from core.names import one_spelling
from feedback.learning.texts import Digest, of_answer, of_prompt, read_alike
from feedback.types import Feedback, Interaction

T = TypeVar("T", bound=str)
Key = tuple[Digest, tuple[Digest, ...]]
Voice = tuple[str, str | None]
"""Who judges: the kind of source, and its end user or own id; None is everyone unnamed."""

MIN_SCORES = 4
CLEAR_SCORE = 0.5
"""How many standard deviations from the user's mean a score must lie to say good or bad."""


# Not tracked by the garbage collector, which would go through all of them over and over: there
# are hundreds of thousands, they live long, and what is frozen is in no circle.
class Vote(Struct, frozen=True, gc=False):
    """One voice's judgement. `key` is what is judged, `side` the judgement: True or False.

    Prompts and texts stand here as the digests that `feedback.learning.texts` makes; the key is
    of the part of each that tells it apart. For a label `texts` is the answer alone; for a pair
    both texts, sorted, and side True prefers the first.
    """

    prompt: Digest
    texts: tuple[Digest, ...]
    side: bool
    voice: Voice
    at_s: float
    feedback_ids: tuple[FeedbackId, ...]
    interaction_ids: tuple[CompletionId, ...]
    version: int | None
    origin: str = "ratings"

    @property
    def key(self) -> Key:
        """What is judged, whoever judges it."""
        return of_prompt(self.prompt), tuple(map(of_answer, self.texts))

    @property
    def order(self) -> tuple[float, tuple[FeedbackId, ...]]:
        """Sorts votes by time, and those of one time always the same way."""
        return self.at_s, self.feedback_ids


class Settled(Struct, frozen=True, gc=False):
    """What the voices agree on: the newest of the winning votes, and all of them."""

    vote: Vote
    votes: tuple[Vote, ...]

    @property
    def voices(self) -> set[Voice]:
        """Who stands behind it."""
        return {vote.voice for vote in self.votes}

    @property
    def feedback_ids(self) -> tuple[FeedbackId, ...]:
        """All feedback behind it, sorted."""
        return tuple(sorted({i for vote in self.votes for i in vote.feedback_ids}))

    @property
    def interaction_ids(self) -> tuple[CompletionId, ...]:
        """All answers behind it, sorted."""
        return tuple(sorted({i for vote in self.votes for i in vote.interaction_ids}))


class Score(Struct, frozen=True, gc=False):
    """A number one voice gave one answer under one name."""

    name: str
    value: float
    vote: Vote  # side is meaningless until the score is centred


def voice_of(item: Feedback, about: Interaction) -> Voice:
    """Whose judgement it is: the named end user, the named source, or the answer's own user."""
    if item.source_kind != "human":
        return item.source_kind, item.source_id
    return "human", one_spelling(item.end_user or item.source_id or about.end_user)


def settle(votes: Iterable[Vote]) -> tuple[list[Settled], dict[FeedbackId, str]]:
    """One judgement per key: a voice's newest vote counts, then the majority of voices.

    Also yields why feedback was left out: `superseded` by the same voice's newer vote,
    `outvoted` by other voices, or `contradicted` in a tie.
    """
    by_key: dict[Key, list[Vote]] = defaultdict(list)
    for vote in votes:
        by_key[vote.key].append(vote)
    settled, dropped = [], dict[FeedbackId, str]()

    def drop(losers: Iterable[Vote], reason: str) -> None:
        dropped.update({i: reason for loser in losers for i in loser.feedback_ids})

    for key in sorted(by_key):
        if len(by_key[key]) == 1:  # most of what is said is said once
            settled.append(Settled(by_key[key][0], tuple(by_key[key])))
            continue
        newest: dict[Voice, Vote] = {}
        said = sorted(by_key[key], key=lambda vote: vote.order)
        for vote in said:
            newest[vote.voice] = vote
        standing = [vote for vote in said if vote.side == newest[vote.voice].side]
        drop((vote for vote in said if vote.side != newest[vote.voice].side), "superseded")
        for_it = sum(vote.side for vote in newest.values())
        if 2 * for_it == len(newest):
            drop(standing, "contradicted")
            continue
        side = 2 * for_it > len(newest)
        drop((vote for vote in standing if vote.side != side), "outvoted")
        winners = [vote for vote in standing if vote.side == side]
        settled.append(Settled(winners[-1], tuple(winners)))
    return settled, dropped


def votes_of_scores(
    scores: Sequence[Score],
) -> tuple[list[Vote], list[Vote], dict[FeedbackId, str]]:
    """Labels and pairs that scores amount to, and why a score became no label.

    Per voice and name: with at least `MIN_SCORES` answers scored, those clearly above or below
    the voice's own mean are good or bad; within one prompt the best answer is preferred to the
    worst, however few there are.
    """
    groups: dict[tuple[str, Voice], dict[Key, Score]] = defaultdict(dict)
    labels, pairs, dropped = [], [], dict[FeedbackId, str]()
    for score in sorted(scores, key=lambda score: score.vote.order):
        group = groups[score.name, score.vote.voice]
        older = group.get(score.vote.key)
        if older is not None:
            dropped.update(dict.fromkeys(older.vote.feedback_ids, "superseded"))
        group[score.vote.key] = score
    for _, group in sorted(groups.items(), key=lambda entry: repr(entry[0])):
        newest = list(group.values())
        pairs += _best_over_worst(newest)
        mean, spread = _centre([score.value for score in newest])
        for score in newest:
            if len(newest) < MIN_SCORES:
                dropped.update(dict.fromkeys(score.vote.feedback_ids, "too_few_scores"))
            elif spread == 0 or abs(score.value - mean) < CLEAR_SCORE * spread:
                dropped.update(dict.fromkeys(score.vote.feedback_ids, "middling_score"))
            else:
                labels.append(replace(score.vote, side=score.value > mean))
    return labels, pairs, dropped


def pair_vote(chosen: Vote, rejected: Vote, origin: str) -> Vote | None:
    """That `chosen`'s text is better, as its voice says; None if the texts are the same."""
    good, bad = chosen.texts[0], rejected.texts[0]
    if read_alike(good, bad):
        return None
    return Vote(
        prompt=chosen.prompt,
        texts=(min(good, bad), max(good, bad)),
        side=good < bad,
        voice=chosen.voice,
        at_s=max(chosen.at_s, rejected.at_s),
        feedback_ids=_both(chosen.feedback_ids, rejected.feedback_ids),
        interaction_ids=_both(chosen.interaction_ids, rejected.interaction_ids),
        version=rejected.version,
        origin=origin,
    )


def _best_over_worst(scores: Sequence[Score]) -> list[Vote]:
    by_prompt: dict[Digest, list[Score]] = defaultdict(list)
    for score in scores:
        by_prompt[of_prompt(score.vote.prompt)].append(score)
    pairs = []
    for group in by_prompt.values():
        ranked = sorted(group, key=lambda score: (score.value, score.vote.texts))
        worst, best = ranked[0], ranked[-1]
        if best.value > worst.value:
            pairs.append(pair_vote(best.vote, worst.vote, "ratings"))
    return [pair for pair in pairs if pair is not None]


def _both(some: tuple[T, ...], others: tuple[T, ...]) -> tuple[T, ...]:
    return tuple(sorted({*some, *others}))


def _centre(values: Sequence[float]) -> tuple[float, float]:
    # Scaled first: scores near the largest float must not overflow when squared.
    scale = max((abs(value) for value in values), default=0.0) or 1.0
    small = [value / scale for value in values]
    return fmean(small) * scale, pstdev(small) * scale
