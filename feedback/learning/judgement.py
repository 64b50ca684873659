"""What one feedback item says of the answers it judges, as votes, or why nothing can be learnt.

Pure; looks at one item at a time. What several items amount to is settled in
`feedback.learning.votes`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from core.ids import AdapterId, CompletionId, FeedbackId
from feedback.learning.votes import Vote, pair_vote, prompt_key, voice_of
from feedback.types import Feedback, Interaction, Message

About = Mapping[CompletionId, Interaction]
_TOOL_REASONS = ("tool_calls", "function_call")


class Refused(Exception):
    """A signal that cannot be learnt from; its text is the reason as counted in `dropped`."""


def _normalised(prompt: Sequence[Message] | str) -> tuple[Message, ...] | str:
    """The prompt as training sees it: role and text of each message, text parts joined.

    Two requests are the same prompt exactly when these are equal.
    """
    if isinstance(prompt, str):
        return prompt
    messages = []
    for message in prompt:
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


def target_of(item: Feedback, about: About) -> Interaction:
    """The answer the item judges; raises Refused when it is not among `about`."""
    if item.completion_id is None or item.completion_id not in about:
        raise Refused("unknown_answer")
    return about[item.completion_id]


def vote_on(
    item: Feedback,
    about: Interaction,
    adapter_id: AdapterId,
    side: bool,
    *,
    choice: int | None = None,
    base_too: bool = False,
) -> Vote:
    """The item's judgement of one answer; raises Refused when that cannot be learnt from."""
    if about.tenant_id != item.tenant_id:
        raise Refused("other_tenant")
    if about.adapter_id != adapter_id and not (base_too and about.adapter_id is None):
        raise Refused("other_adapter")
    if about.outcome != "completed":
        raise Refused("not_completed")
    if about.finish_reason in _TOOL_REASONS or _calls_tools(about.response):
        raise Refused("tool_calls")
    index = item.choice_index if choice is None else choice
    if index >= len(about.answers):
        raise Refused("no_such_choice")
    text = about.answers[index]
    if not text.strip():
        raise Refused("empty_answer")
    return Vote(
        prompt_key=prompt_key(_normalised(about.prompt)),
        texts=(text,),
        side=side,
        voice=voice_of(item, about),
        at_s=item.said_at_s,
        feedback_ids=frozenset([item.id]),
        interaction_ids=frozenset([about.id]),
        version=about.version,
    )


def _calls_tools(value: Any) -> bool:
    if isinstance(value, Mapping):
        return any(
            bool(item) if key in _TOOL_REASONS else _calls_tools(item)
            for key, item in value.items()
        )
    return isinstance(value, list | tuple) and any(map(_calls_tools, value))


def correction_vote(item: Feedback, about: About, adapter_id: AdapterId) -> Vote:
    """That the edited answer is better than the one given."""
    original = vote_on(item, target_of(item, about), adapter_id, False)
    edited = replace(original, texts=(item.correction or "",), side=True)
    if not edited.texts[0].strip():
        raise Refused("empty_answer")
    vote = pair_vote(edited, original, "correction")
    if vote is None:
        raise Refused("unchanged_correction")
    return vote


def comparison_votes(
    item: Feedback,
    about: About,
    adapter_id: AdapterId,
    reasons: dict[FeedbackId, str],
) -> list[Vote]:
    """One vote per rejected answer that can be learnt from; the base may be one of the sides."""
    assert item.comparison is not None
    if item.comparison.preferred not in about or not item.comparison.rejected:
        raise Refused("unknown_answer")
    if not any(answer.adapter_id == adapter_id for answer in about.values()):
        raise Refused("other_adapter")
    best = about[item.comparison.preferred]
    chosen = vote_on(item, best, adapter_id, True, choice=0, base_too=True)
    votes = []
    for rejected_id in item.comparison.rejected:
        try:
            if rejected_id not in about:
                raise Refused("unknown_answer")
            answer = about[rejected_id]
            rejected = vote_on(item, answer, adapter_id, False, choice=0, base_too=True)
            if adapter_id not in (best.adapter_id, answer.adapter_id):
                raise Refused("other_adapter")
            if rejected.prompt_key != chosen.prompt_key:
                raise Refused("prompts_differ")
            vote = pair_vote(chosen, rejected, "comparison")
            if vote is None:
                raise Refused("same_text")
            votes.append(vote)
        except Refused as refused:
            reasons.setdefault(item.id, str(refused))
    return votes
