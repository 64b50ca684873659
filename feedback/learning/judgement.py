"""What one feedback item says of the answers it judges, as votes, or why nothing can be learnt.

Pure; looks at one item at a time. What several items amount to is settled in
`feedback.learning.votes`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from msgspec import Struct
from msgspec.structs import replace

from core.ids import AdapterId, CompletionId, FeedbackId
from feedback.learning.recorded import (
    Encode,
    Recorded,
    Refused,
    anything_fits,
    corrected,
    recorded_answer,
)
from feedback.learning.texts import Digest, Texts, same_prompt
from feedback.learning.votes import Score, Vote, pair_vote, voice_of
from feedback.token_ids import pack_ids
from feedback.types import Feedback, Interaction

About = Mapping[CompletionId, Interaction]


class Judgement(Struct, frozen=True, gc=False):
    """All that one item says, and why it says less than it might."""

    id: FeedbackId
    at_s: float
    labels: tuple[Vote, ...]
    pairs: tuple[Vote, ...]
    scores: tuple[Score, ...]
    reason: str | None


@dataclass(frozen=True, slots=True)
class Reader:
    """Reads items for one adapter: into `texts`, less what its trainer cannot `encode`."""

    adapter_id: AdapterId
    texts: Texts
    encode: Encode = anything_fits

    def judgement(self, item: Feedback, answers: Iterable[Interaction]) -> Judgement:
        """What an item says of the answers it speaks of, those that are known."""
        about = {answer.id: answer for answer in answers}
        reasons = ["comment"] if item.kind == "comment" else []
        labels, pairs, scores = list[Vote](), list[Vote](), list[Score]()
        if item.comparison is not None:
            try:
                pairs += self._comparison(item, about, reasons)
            except Refused as refused:
                reasons.append(str(refused))
        if item.correction is not None:
            try:
                pairs.append(self._correction(item, about))
            except Refused as refused:
                reasons.append(str(refused))
        if isinstance(item.value, bool | int | float):
            try:
                vote = self._vote(item, _target(item, about), item.value is True)
                if isinstance(item.value, bool):
                    labels.append(vote)
                else:
                    scores.append(Score(item.name, float(item.value), vote))
            except Refused as refused:
                reasons.append(str(refused))
        reason = reasons[0] if reasons else None
        said = tuple(labels), tuple(pairs), tuple(scores)
        return Judgement(item.id, item.said_at_s, *said, reason)

    def _vote(
        self,
        item: Feedback,
        about: Interaction,
        side: bool,
        *,
        choice: int | None = None,
        base_too: bool = False,
    ) -> Vote:
        """The item's judgement of one answer; raises Refused when that cannot be learnt from."""
        if about.tenant_id != item.tenant_id:
            raise Refused("other_tenant")
        if about.adapter_id != self.adapter_id and not (base_too and about.adapter_id is None):
            raise Refused("other_adapter")
        if about.outcome != "completed":
            raise Refused("not_completed")
        index = item.choice_index if choice is None else choice
        prompt, text = self._digests(recorded_answer(about, index))
        return Vote(
            prompt=prompt,
            texts=(text,),
            side=side,
            voice=voice_of(item, about),
            at_s=item.said_at_s,
            feedback_ids=(item.id,),
            interaction_ids=(about.id,),
            version=about.version,
        )

    def _digests(self, recorded: Recorded) -> tuple[Digest, Digest]:
        prompt_ids, ids = (None if ids is None else pack_ids(ids) for ids in self.encode(recorded))
        return (
            self.texts.prompt(lambda: recorded.prompt, prompt_ids),
            self.texts.answer(recorded.text, ids, plain=recorded.plain),
        )

    def _correction(self, item: Feedback, about: About) -> Vote:
        """That the edited answer is better than the one given."""
        answer = _target(item, about)
        original = self._vote(item, answer, False)
        edit = corrected(recorded_answer(answer, item.choice_index), item.correction or "")
        prompt, text = self._digests(edit)
        if not same_prompt(prompt, original.prompt):
            raise Refused("prompts_differ")
        vote = pair_vote(replace(original, texts=(text,), side=True), original, "correction")
        if vote is None:
            raise Refused("unchanged_correction")
        return vote

    def _comparison(self, item: Feedback, about: About, reasons: list[str]) -> list[Vote]:
        """One vote per rejected answer that can be learnt from; one side may be the base's."""
        assert item.comparison is not None
        if item.comparison.preferred not in about or not item.comparison.rejected:
            raise Refused("unknown_answer")
        if not any(answer.adapter_id == self.adapter_id for answer in about.values()):
            raise Refused("other_adapter")
        best = about[item.comparison.preferred]
        chosen = self._vote(item, best, True, choice=0, base_too=True)
        votes = []
        for rejected_id in item.comparison.rejected:
            try:
                votes.append(self._over(item, chosen, best, about.get(rejected_id)))
            except Refused as refused:
                reasons.append(str(refused))
        return votes

    def _over(
        self, item: Feedback, chosen: Vote, best: Interaction, other: Interaction | None
    ) -> Vote:
        if other is None:
            raise Refused("unknown_answer")
        rejected = self._vote(item, other, False, choice=0, base_too=True)
        if self.adapter_id not in (best.adapter_id, other.adapter_id):
            raise Refused("other_adapter")
        if not same_prompt(rejected.prompt, chosen.prompt):
            raise Refused("prompts_differ")
        vote = pair_vote(chosen, rejected, "comparison")
        if vote is None:
            raise Refused("same_text")
        return vote


def _target(item: Feedback, about: About) -> Interaction:
    """The answer the item judges; raises Refused when it is not among `about`."""
    if item.completion_id is None or item.completion_id not in about:
        raise Refused("unknown_answer")
    return about[item.completion_id]
