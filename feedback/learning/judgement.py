"""What one feedback item says of the answers it judges, as votes, or why nothing can be learnt.

Pure; looks at one item at a time. What several items amount to is settled in
`feedback.learning.votes`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from msgspec import Struct
from msgspec.structs import replace

from core.ids import AdapterId, CompletionId, FeedbackId
from feedback.learning.texts import Texts
from feedback.learning.votes import Score, Vote, pair_vote, voice_of
from feedback.types import Feedback, Interaction, Prompt, Prompts

About = Mapping[CompletionId, Interaction]
Unfit = Callable[[Prompt, str, int | None], str | None]
"""Why a trainer cannot take an answer to a prompt, as counted in `dropped`; None: it can.

Told how many tokens the engine counted for both, where that is known.
"""

_TOOL_REASONS = ("tool_calls", "function_call")


class Refused(Exception):
    """A signal that cannot be learnt from; its text is the reason as counted in `dropped`."""


def anything_fits(prompt: Prompt, answer: str, counted: int | None) -> None:
    """The `Unfit` of a trainer that takes everything."""


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
    """Reads items for one adapter: into `texts`, less what its trainer finds `unfit`."""

    adapter_id: AdapterId
    texts: Texts
    unfit: Unfit = anything_fits

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
        if index >= len(about.answers):
            raise Refused("no_such_choice")
        told = about.choice(index)
        if told.finish_reason in _TOOL_REASONS or told.tool_calls or _calls_tools(about.response):
            raise Refused("tool_calls")
        text = about.answers[index]
        if not text.strip():
            raise Refused("empty_answer")
        prompt = _normalised(about.prompt)
        self._fit(prompt, text, _counted(about))
        return Vote(
            prompt=self.texts.prompt(prompt),
            texts=(self.texts.answer(text),),
            side=side,
            voice=voice_of(item, about),
            at_s=item.said_at_s,
            feedback_ids=(item.id,),
            interaction_ids=(about.id,),
            version=about.version,
        )

    def _fit(self, prompt: Prompt, text: str, counted: int | None) -> None:
        reason = self.unfit(prompt, text, counted)
        if reason is not None:
            raise Refused(reason)

    def _correction(self, item: Feedback, about: About) -> Vote:
        """That the edited answer is better than the one given."""
        edit = item.correction or ""
        if not edit.strip():
            raise Refused("empty_answer")
        answer = _target(item, about)
        original = self._vote(item, answer, False)
        self._fit(_normalised(answer.prompt), edit, None)
        edited = replace(original, texts=(self.texts.answer(edit),), side=True)
        vote = pair_vote(edited, original, "correction")
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
        if rejected.prompt != chosen.prompt:
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


def _counted(about: Interaction) -> int | None:
    if about.prompt_tokens is None or about.completion_tokens is None:
        return None
    return about.prompt_tokens + about.completion_tokens


def _normalised(prompt: Prompts) -> Prompt:
    """The prompt as training sees it: role and text of each message, text parts joined.

    Two requests are the same prompt exactly when these are equal.
    """
    if isinstance(prompt, str):
        return prompt
    messages = []
    for message in prompt:
        if not isinstance(message, Mapping):
            raise Refused("not_text")  # token ids, or one of several prompts
        kind = message.get("type", "message")  # of an item of a response
        if kind == "reasoning":
            continue  # what was thought is no turn of the conversation
        uses_tools = message.get("role") in ("tool", "function") or kind != "message"
        if uses_tools or _calls_tools(message):
            raise Refused("tool_calls")
        messages.append({"role": message.get("role"), "content": _plain(message.get("content"))})
    return tuple(messages)


def _plain(content: Any) -> str:
    if isinstance(content, str):
        return content
    if not isinstance(content, Sequence) or not all(
        isinstance(part, Mapping) and isinstance(part.get("text"), str) for part in content
    ):
        raise Refused("not_text")
    return "\n".join(part["text"] for part in content)


def _calls_tools(value: Any) -> bool:
    if isinstance(value, Mapping):
        return any(
            bool(item) if key in _TOOL_REASONS else _calls_tools(item)
            for key, item in value.items()
        )
    return isinstance(value, list | tuple) and any(map(_calls_tools, value))
