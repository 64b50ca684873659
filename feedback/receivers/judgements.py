"""`POST /v1/judgements`: pairs and labels made elsewhere, as answers and feedback of an adapter.

Owns the form of the call and the ids, which follow from what a row states: the same row again
changes nothing. What a row states is read by `feedback.rows`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Annotated, Any, Literal

from pydantic import BaseModel, Field

from core.bodies import Body, check_text, says
from core.errors import Invalid
from core.http_errors import ErrorBody, error_body
from core.ids import FeedbackId
from core.text import json_text
from feedback.receivers.base import Caller, Receiver, Result
from feedback.rows import Row, RowKind, read_row
from feedback.types import Comparison, Feedback, Interaction

MAX_ROWS = 100
_GIVER = "import"
"""Who gave them, whatever key was used: another key may import the same file again."""


class JudgementsBody(Body):
    """Rows of one kind, in TRL's forms or OpenAI's. See the guide for `plain`."""

    adapter: Annotated[str, says("Name the adapter that is to learn from them.")]
    kind: Annotated[RowKind, says("kind is 'pairs' or 'labels'.")]
    rows: Annotated[list[Any], Field(min_length=1, json_schema_extra={"maxItems": MAX_ROWS})]
    plain: bool = False
    dryrun: bool = False


class RowTaken(BaseModel):
    """A row that is stored, now or before; of a dry run, one that could be."""

    row: int
    status: Literal["stored", "already_stored", "valid"]
    id: str


class RowRejected(BaseModel):
    """A row that is not taken, and why."""

    row: int
    status: Literal["rejected"] = "rejected"
    error: ErrorBody


class JudgementsAnswer(BaseModel):
    """One result per row, in the order of the call; `row` counts from 0."""

    object: Literal["judgements"] = "judgements"
    results: list[RowTaken | RowRejected]


@dataclass(frozen=True, slots=True)
class _Part:
    """What is stored of a row: each of its answers, then the judgement (`answer` None)."""

    at: int
    row: Row | None
    answer: int | None = None


class JudgementsReceiver(Receiver[JudgementsBody]):
    """Store pairs or labels made elsewhere for an adapter; the same row again changes nothing.

    Each row is stored, was stored already, or is rejected with the reason; the others stay. 400
    beyond 100 rows, 413 beyond 4 MB.
    """

    name = "judgements"
    scope = "train"
    path = "/v1/judgements"
    body = JudgementsBody
    answer = JudgementsAnswer
    statuses = ((200, "What became of each row."),)
    max_items = 3 * MAX_ROWS
    max_bytes = 4_000_000

    def items(self, sent: JudgementsBody) -> Sequence[_Part | Result]:
        if len(sent.rows) > MAX_ROWS:
            raise Invalid(
                f"At most {MAX_ROWS} rows a call, not {len(sent.rows):,}: send the rest in "
                "further calls.",
                param="rows",
                code="too_many_items",
            )
        return [part for at, row in enumerate(sent.rows) for part in _parts(at, row, sent)]

    def giver(self, sent: JudgementsBody, caller: Caller) -> str:
        check_text(sent.adapter)
        caller.adapter_id(sent.adapter, None)  # or the call is refused, not each row
        return _GIVER

    def dry_run(self, sent: JudgementsBody) -> bool:
        return sent.dryrun

    def read(self, item: _Part, sent: JudgementsBody, caller: Caller) -> Interaction | Feedback:
        assert item.row is not None
        if item.answer is not None:
            return _interaction(item.row, item.answer, sent, caller)
        return _feedback(item.row, sent, caller)

    def respond(self, sent: JudgementsBody, results: Sequence[Result]) -> tuple[int, BaseModel]:
        of_rows = groupby(results, key=lambda result: int(result.sent.at))
        return 200, JudgementsAnswer(results=[_fate(at, list(parts)) for at, parts in of_rows])


def _parts(at: int, sent: Any, call: JudgementsBody) -> Iterator[_Part | Result]:
    try:
        row = read_row(sent, call.kind, plain=call.plain)
    except Invalid as error:
        yield Result(_Part(at, None), error=error)
        return
    for answer in (*range(len(row.answers)), None):
        yield _Part(at, row, answer)


def _fate(at: int, parts: Sequence[Result]) -> RowTaken | RowRejected:
    for part in parts:
        if part.error is not None:
            return RowRejected(row=at, error=error_body(part.error))
    said = parts[-1]
    assert said.item is not None
    if said.change is None:
        return RowTaken(row=at, status="valid", id=said.item.id)
    status = "already_stored" if said.change == "unchanged" else "stored"
    return RowTaken(row=at, status=status, id=said.item.id)


def _interaction(row: Row, answer: int, sent: JudgementsBody, caller: Caller) -> Interaction:
    text, adapter_id = row.answers[answer], caller.adapter_id(sent.adapter, None)
    return Interaction(
        id=caller.derived_id(_GIVER, adapter_id, json_text(row.prompt), text),
        tenant_id=caller.tenant_id,
        endpoint="completions" if isinstance(row.prompt, str) else "chat.completions",
        created_at_s=caller.now_s,
        outcome="completed",
        model_requested=sent.adapter,
        model_answered=_GIVER,
        adapter_id=adapter_id,
        version=None,
        explored=False,
        prompt=row.prompt,
        answers=(text,),
        finish_reason="stop",
        request={"imported": True},
    )


def _feedback(row: Row, sent: JudgementsBody, caller: Caller) -> Feedback:
    adapter_id = caller.adapter_id(sent.adapter, None)
    about = [_interaction(row, at, sent, caller).id for at in range(len(row.answers))]
    is_pair = len(about) == 2
    return Feedback(
        id=FeedbackId(f"imp_{row.digest}_{adapter_id}"),
        tenant_id=caller.tenant_id,
        created_at_s=caller.now_s,
        completion_id=None if is_pair else about[0],
        name="comparison" if is_pair else "thumb",
        value=None if is_pair else row.good,
        comparison=Comparison(about[0], (about[1],)) if is_pair else None,
        # A voice of its own, or all rows would be one user, who may not teach more than others.
        source_id=None if row.user else f"import-{row.digest[:16]}",
        end_user=row.user,
    )
