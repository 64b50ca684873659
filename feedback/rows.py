"""Between the nouns of feedback and their SQL rows: pure conversions, no connection.

Rows are made so that either database takes them: text fits its column and holds no NUL or lone
surrogate, JSON holds no NaN. One odd answer must not spoil a commit shared with others.
"""

from __future__ import annotations

import json
from typing import Any

import sqlalchemy as sa

from core.ids import AdapterId, CompletionId, FeedbackId, TenantId
from core.text import UNSTORABLE, fit
from feedback.types import Comparison, Feedback, Interaction


def interaction_row(it: Interaction) -> dict[str, Any]:
    """The row of an interaction, less `seq`."""
    return {
        "id": it.id,
        "tenant_id": it.tenant_id,
        "endpoint": it.endpoint,
        "created_at_s": it.created_at_s,
        "outcome": it.outcome,
        "model_requested": fit(it.model_requested, 256),
        "model_answered": fit(it.model_answered, 256),
        "adapter_id": it.adapter_id,
        "version": it.version,
        "explored": it.explored,
        "prompt": it.prompt,
        "answers": list(it.answers),
        "finish_reason": None if it.finish_reason is None else fit(it.finish_reason, 32),
        "end_user": None if it.end_user is None else fit(it.end_user, 256),
        "domain": None if it.domain is None else fit(it.domain, 256),
        "conversation_id": None if it.conversation_id is None else fit(it.conversation_id, 256),
        "sampling": it.sampling,
        "request": it.request,
        "response": it.response,
        "prompt_tokens": it.prompt_tokens,
        "completion_tokens": it.completion_tokens,
        "first_token_ms": it.first_token_ms,
        "duration_ms": it.duration_ms,
    }


def interaction_of(row: sa.RowMapping) -> Interaction:
    """The interaction of a row."""
    values = {name: row[name] for name in Interaction.__slots__}
    values["id"] = CompletionId(row["id"])
    values["tenant_id"] = TenantId(row["tenant_id"])
    values["adapter_id"] = None if row["adapter_id"] is None else AdapterId(row["adapter_id"])
    values["prompt"] = row["prompt"] if isinstance(row["prompt"], str) else tuple(row["prompt"])
    values["answers"] = tuple(row["answers"])
    return Interaction(**values)


def feedback_row(item: Feedback) -> dict[str, Any]:
    """The row of a feedback item, less `seq` and the times."""
    compared = item.comparison
    number = isinstance(item.value, int | float) and not isinstance(item.value, bool)
    return {
        "tenant_id": item.tenant_id,
        "id": item.id,
        "kind": item.kind,
        "completion_id": item.completion_id,
        "choice_index": item.choice_index,
        "name": fit(item.name, 128),
        "value": float(item.value) if number and item.value is not None else item.value,
        "comment": None if item.comment is None else item.comment.translate(UNSTORABLE),
        "correction": None if item.correction is None else item.correction.translate(UNSTORABLE),
        "comparison": compared
        and {"preferred": compared.preferred, "rejected": list(compared.rejected)},
        "source_kind": item.source_kind,
        "source_id": None if item.source_id is None else fit(item.source_id, 256),
        "end_user": None if item.end_user is None else fit(item.end_user, 256),
        "tags": item.tags,
        "metadata": item.metadata,
    }


def feedback_of(row: sa.RowMapping) -> Feedback:
    """The feedback item of a row."""
    values = {name: row[name] for name in Feedback.__slots__}
    values["id"] = FeedbackId(row["id"])
    values["tenant_id"] = TenantId(row["tenant_id"])
    if isinstance(row["value"], int) and not isinstance(row["value"], bool):
        values["value"] = float(row["value"])  # SQLite keeps the JSON number 1.0 as 1
    values["completion_id"] = row["completion_id"] and CompletionId(row["completion_id"])
    compared = row["comparison"]
    values["comparison"] = compared and Comparison(
        CompletionId(compared["preferred"]), tuple(map(CompletionId, compared["rejected"]))
    )
    return Feedback(**values)


def same_statement(left: Feedback, right: Feedback) -> bool:
    """Whether two items say the same, whenever they say it; unlike `==` it tells True from 1."""
    texts = [json.dumps(feedback_row(item), sort_keys=True) for item in (left, right)]
    return texts[0] == texts[1]


def completion_ids(item: Feedback) -> tuple[CompletionId, ...]:
    """Every completion a feedback item speaks of, each once, in a fixed order."""
    ids = set() if item.completion_id is None else {item.completion_id}
    if item.comparison is not None:
        ids |= {item.comparison.preferred, *item.comparison.rejected}
    return tuple(sorted(ids))
