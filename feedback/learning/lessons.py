"""What one item can teach, as far as that is known when it is given; nothing is learnt here.

Owns how much may be looked at to tell: the answers the item speaks of and, for a score, a few
other scores. What all of it amounts to later is settled in `feedback.learning.pairing`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from core.database import Database
from core.ids import AdapterId, CompletionId
from core.names import one_spelling
from feedback.judged import answers_of
from feedback.learning.judgement import Judgement, Reader
from feedback.learning.reasons import sentence
from feedback.learning.texts import Texts
from feedback.learning.votes import MIN_SCORES, voice_of, votes_of_scores
from feedback.store import FeedbackStore
from feedback.types import Feedback, Interaction, Lesson, Teaches

Answers = Mapping[CompletionId, Interaction]

_SCORES = 50
_CHARACTERS = 4_000_000
"""Of prompts and answers: longer ones no trainer takes, and decoding them is felt by others."""
_MEANS: dict[Teaches, str] = {
    "label": "a label: this answer is good, or bad",
    "pair": "a pair: one answer over another",
    "score": "with the voice's other scores of that name, labels and pairs",
}


class Lessons:
    """Tells what items can teach. Safe to use from several threads."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._feedback = FeedbackStore(database)

    def of(self, item: Feedback) -> Lesson:
        """What the item can teach, stored or not: a few short queries."""
        if item.kind == "comment":
            return _lesson([], "comment")
        answers = self._answers(item.completion_ids)
        if answers is None:
            return _lesson([], "too_long")
        judged = [_judged(item, answers, adapter) for adapter in _adapters(answers)]
        if not judged:
            return _lesson([], "base_answer" if answers else "awaiting_answer")
        teaches: list[Teaches] = []
        if any(one.labels for one in judged):
            teaches.append("label")
        if any(one.pairs for one in judged):
            teaches.append("pair")
        reason = next((one.reason for one in judged if one.reason), None)
        if reason == "unknown_answer" and len(answers) < len(item.completion_ids):
            reason = "awaiting_answer"
        if any(one.scores for one in judged):
            learnt = self._of_score(item, answers)
            teaches += [] if learnt is None else [learnt]
            reason = reason or ("too_few_scores" if learnt is None else None)
        return _lesson(list(dict.fromkeys(teaches)), reason)

    def _of_score(self, item: Feedback, answers: Answers) -> Teaches | None:
        """What a score can teach beside those there are by now; None for nothing yet."""
        page = self._feedback.list(item.tenant_id, kind="score", name=item.name, limit=_SCORES)
        _, voice = voice_of(item, _about(item, answers))
        others = [one for one in page.items if one.id != item.id and _may_be(one, voice, item)]
        if page.has_more or len(others) >= MIN_SCORES - 1:
            return "score"
        known = self._answers([a for one in others for a in one.completion_ids])
        if known is None:
            return "score"
        known = {**known, **answers}
        adapter = _about(item, answers).adapter_id
        assert adapter is not None  # it was judged as one of an adapter's
        judged = [_judged(one, known, adapter) for one in (*others, item)]
        _, pairs, _ = votes_of_scores([score for one in judged for score in one.scores])
        return "pair" if any(item.id in pair.feedback_ids for pair in pairs) else None

    def _answers(self, completion_ids: Sequence[CompletionId]) -> Answers | None:
        return answers_of(self._database, completion_ids, most_characters=_CHARACTERS)


def _judged(item: Feedback, answers: Answers, adapter_id: AdapterId) -> Judgement:
    about = [answers[name] for name in item.completion_ids if name in answers]
    return Reader(adapter_id, Texts(keep=False)).judgement(item, about)


def _adapters(answers: Answers) -> Sequence[AdapterId]:
    """The adapters that may learn from what is said of these answers."""
    return sorted({one.adapter_id for one in answers.values() if one.adapter_id is not None})


def _about(item: Feedback, answers: Answers) -> Interaction:
    assert item.completion_id is not None  # a score has its answer
    return answers[item.completion_id]


def _own_voice(item: Feedback) -> str | None:
    """The voice that an item names by itself, as `feedback.learning.votes` reads it."""
    if item.source_kind != "human":
        return item.source_id
    return one_spelling(item.end_user or item.source_id)


def _may_be(other: Feedback, voice: str | None, item: Feedback) -> bool:
    """Whether another score may be of this voice: one that names none may be anybody's."""
    same_kind = other.source_kind == item.source_kind
    return same_kind and _own_voice(other) in (None, voice)


def _lesson(teaches: Sequence[Teaches], reason: str | None) -> Lesson:
    told = " and ".join(_MEANS[one] for one in teaches)
    note = f"It can teach {told}." if told else ""
    why = sentence(reason) if reason else ""
    return Lesson(tuple(teaches), reason, f"{note} {why}".strip())
