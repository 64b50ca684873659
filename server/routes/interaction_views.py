"""An answered request as HTTP shows it: what was asked and answered, in words and in token ids, by
what, and what was said of it."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import Any, Literal

from pydantic import BaseModel, Field

from core.bodies import Resource, Time, View, is_shallow
from core.errors import Invalid
from feedback.served import Served, unpack
from feedback.types import Arm, Choice, Feedback, Interaction, Kind, Outcome
from server.chat_template import ChatTemplate

logger = logging.getLogger("attune.server")

_WRITABLE_DEPTH = 200
_TOO_DEEP = {"unreadable": "This is nested too deeply to be shown."}

Ids = list[int]


class ChoiceView(BaseModel):
    """One answer. `finish_reason`, `stop_reason` and `tool_calls` are in its endpoint's words."""

    index: int
    prompt_index: int = Field(description="Which prompt of a batch it answers, from 0.")
    text: str
    finish_reason: str | None
    stop_reason: int | str | None
    reasoning: str | None
    tool_calls: list[Any]
    token_ids: Ids | None = Field(description="All that was sampled; null: not kept.")


class JudgementView(View):
    """What was said of it, in short; `GET /v1/feedback/{id}` shows the rest."""

    id: str
    kind: Kind
    name: str
    value: bool | float | str | None
    choice_index: int
    preferred: bool | None = Field(description="Of a comparison: whether it was the better one.")
    user: str | None
    created_at: Time


class InteractionView(Resource):
    """An answered request as it was recorded."""

    object: Literal["interaction"] = "interaction"
    created_at: Time
    endpoint: str
    outcome: Outcome
    error: str | None
    model_requested: str
    model: str = Field(description="What answered: `support@7`, or the base model's name.")
    adapter: str | None
    version: int | None
    arm: Arm
    prompt: Any = Field(description="Messages, a text, token ids, or a list of prompts.")
    prompt_token_ids: Ids | list[Ids] | None = Field(
        description="What the model read: a list per prompt for a list of prompts; null: not kept."
    )
    answers: list[str]
    choices: list[ChoiceView]
    user: str | None
    domain: str | None
    conversation: str | None
    sampling: Any
    request: Any = Field(description="What else was asked for: tools, formats, metadata.")
    prompt_tokens: int | None
    completion_tokens: int | None
    first_token_ms: float | None
    duration_ms: float | None
    feedback: list[JudgementView] = Field(description="The newest 20 things said of it.")


def interaction_view(
    answered: Interaction,
    adapter: str | None,
    said: Sequence[Feedback],
    template: ChatTemplate,
) -> InteractionView:
    """The view of an answered request of that adapter, of which this was said."""
    served = _served(answered)
    return InteractionView(
        id=answered.id,
        created_at=answered.created_at_s,
        endpoint=answered.endpoint,
        outcome=answered.outcome,
        error=(answered.response or {}).get("error"),
        model_requested=answered.model_requested,
        model=answered.model_answered,
        adapter=adapter,
        version=answered.version,
        arm=answered.arm,
        prompt=_writable(_prompt(answered, template)),
        prompt_token_ids=_prompt_ids(answered, served),
        answers=list(answered.answers),
        choices=_choices(answered, served),
        user=answered.end_user,
        domain=answered.domain,
        conversation=answered.conversation_id,
        sampling=_writable(answered.sampling),
        request=_writable(answered.request),
        prompt_tokens=answered.prompt_tokens,
        completion_tokens=answered.completion_tokens,
        first_token_ms=answered.first_token_ms,
        duration_ms=answered.duration_ms,
        feedback=[_judgement(answered, item) for item in said],
    )


def _served(answered: Interaction) -> Served | None:
    try:
        return None if answered.tokens is None else unpack(answered.tokens)
    except Invalid:  # a list must not fail for one
        logger.warning("The tokens of %s cannot be read.", answered.id)
        return None


def _prompt(answered: Interaction, template: ChatTemplate) -> Any:
    if answered.endpoint != "responses" or isinstance(answered.prompt, str):
        return answered.prompt
    # Items are kept as they were sent: the next turn may go on from them.
    return template.as_read([item for item in answered.prompt if isinstance(item, Mapping)])


def _prompt_ids(answered: Interaction, served: Served | None) -> Ids | list[Ids] | None:
    if served is None or not served.prompts:
        return None
    prompts = [list(ids) for ids in served.prompts]
    return prompts if answered.is_batch or len(prompts) > 1 else prompts[0]


def _choices(answered: Interaction, served: Served | None) -> list[ChoiceView]:
    sampled = served.choices if served else ()
    count = max(len(answered.answers), len(answered.choices), len(sampled))
    return [
        _choice(
            index,
            sampled[index].prompt
            if index < len(sampled)
            else index * answered.prompt_count // count,
            answered.answers[index] if index < len(answered.answers) else "",
            answered.choice(index),
            list(sampled[index].token_ids) if index < len(sampled) else None,
        )
        for index in range(count)
    ]


def _choice(index: int, prompt: int, text: str, told: Choice, ids: Ids | None) -> ChoiceView:
    return ChoiceView(
        index=index,
        prompt_index=prompt,
        text=text,
        finish_reason=told.finish_reason,
        stop_reason=told.stop_reason,
        reasoning=told.reasoning,
        tool_calls=list(told.tool_calls),
        token_ids=ids,
    )


def _judgement(answered: Interaction, item: Feedback) -> JudgementView:
    compared = item.comparison and item.comparison.preferred == answered.id
    return JudgementView.of(
        item,
        kind=item.kind,
        preferred=compared,
        user=item.end_user,
        created_at=item.created_at_s,
    )


def _writable(value: Any) -> Any:
    # What earlier releases took can be deeper than JSON is written here.
    return value if is_shallow(_listed(value), _WRITABLE_DEPTH) else _TOO_DEEP


def _listed(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value
