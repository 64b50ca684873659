"""`POST /api/public/scores`: the scores the Langfuse SDK sends, for tools that have it built in.

The key is the secret of Basic auth; the answer is named by `traceId` or `observationId`. Owns
what a score means here. Source: langfuse 5.0.4, `api/scores` and `_task_manager/score_consumer`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, WrapValidator

from core.errors import AttuneError, Conflict, Forbidden, Invalid, NotFound, Unauthenticated
from core.feedback_fields import Comment, Name, Value, thumb_of
from core.http_errors import status_of
from feedback.receivers.base import Caller, Part, Receiver, Result, alone
from feedback.receivers.native import feedback_stated
from feedback.types import Feedback

_ERRORS: dict[type[AttuneError], str] = {
    Invalid: "InvalidRequestError",
    Unauthenticated: "UnauthorizedError",
    Forbidden: "ForbiddenError",
    NotFound: "LangfuseNotFoundError",
    Conflict: "LangfuseConflictError",
}


class Score(Part):
    """One score. What is Langfuse's alone (configs, queues, environments) is passed over."""

    id: str | None = None
    traceId: str | None = None
    observationId: str | None = None
    name: Name
    value: Value
    dataType: str | None = None
    comment: Comment | None = None
    metadata: Any = None


class ScoreTaken(BaseModel):
    """A score that is stored: 201 if it is new, 200 if it was known."""

    id: str
    status: int


class ScoreRefused(BaseModel):
    """A score that is not, and why."""

    id: str | None
    status: int
    message: str
    error: str


class ScoresAnswer(BaseModel):
    """What became of each score."""

    successes: list[ScoreTaken]
    errors: list[ScoreRefused]


class ScoresRefused(ScoresAnswer):
    """As the SDK reads it when not all were taken: it logs the counts and the messages."""

    accepted: int
    rejected: int


class LangfuseError(BaseModel):
    """An error as Langfuse's clients read it."""

    message: str
    error: str


class Erased(BaseModel):
    """The answer to taking a score back."""

    message: str


def _listed(sent: Any) -> Any:
    return sent if isinstance(sent, list) else [sent]


class LangfuseReceiver(Receiver[list[Score | Result]]):
    """Langfuse's scores, one or a list of them: send the answer's id as `traceId`.

    The same id again is an update. A score that cannot be taken stands in `errors`; the others
    stay.
    """

    name = "langfuse"
    path = "/api/public/scores"
    body = Annotated[
        list[Annotated[Score, WrapValidator(alone)]],
        BeforeValidator(_listed, json_schema_input_type=Score | list[Score]),
    ]
    answer = ScoresAnswer | ScoresRefused
    statuses = ((207, "What became of each score."),)
    auth = "basic"

    def items(self, sent: list[Score | Result]) -> Sequence[Score | Result]:
        return sent

    def read(self, item: Score, sent: Any, caller: Caller) -> Feedback:
        metadata = item.metadata if isinstance(item.metadata, dict) else {"value": item.metadata}
        fields = {
            "id": item.id,
            "completion_id": _answer(item, caller),
            "name": item.name,
            "value": _value(item),
            "comment": item.comment,
            "metadata": {} if item.metadata is None else metadata,
        }
        return feedback_stated(fields, tenant_id=caller.tenant_id, at_s=caller.now_s)

    def respond(self, sent: Any, results: Sequence[Result]) -> tuple[int, BaseModel]:
        successes = [
            ScoreTaken(id=result.item.id, status=201 if result.change == "created" else 200)
            for result in results
            if result.item is not None
        ]
        errors = [_refused(result, result.error) for result in results if result.error]
        if not errors:
            return 207, ScoresAnswer(successes=successes, errors=[])
        return 207, ScoresRefused(
            successes=successes,
            errors=errors,
            accepted=len(successes),
            rejected=len(errors),
        )

    def erased(self, feedback_id: str) -> BaseModel:
        return Erased(message=f"Score '{feedback_id}' is deleted.")

    def refusal(self, error: AttuneError) -> BaseModel:
        return LangfuseError(message=error.message, error=_kind(error))


def _answer(score: Score, caller: Caller) -> str:
    """The answer meant: an observation is part of a trace, and either may carry its id."""
    named = [sent for sent in (score.observationId, score.traceId) if sent]
    if not named:
        raise Invalid("traceId: send the id the answer came with (chatcmpl-…).", param="traceId")
    return next((sent for sent in named if caller.issued(sent)), named[-1])


def _value(score: Score) -> bool | float:
    value, kind = score.value, score.dataType
    if kind is None:
        kind = "CATEGORICAL" if isinstance(value, str) else "NUMERIC"
    if kind == "CATEGORICAL" and isinstance(value, str):
        thumb = thumb_of(value.lower())
        if thumb is None:
            raise Invalid(
                "value: of categories only a thumb is taken: up, good, like or down, bad, dislike.",
                param="value",
            )
        return thumb
    if kind in ("BOOLEAN", "NUMERIC") and isinstance(value, bool | float | int):
        if value in (0, 1):
            return bool(value)
        if kind == "NUMERIC":
            return value
        raise Invalid("value: a BOOLEAN is 0 or 1.", param="value")
    raise Invalid(
        "dataType is BOOLEAN or NUMERIC with a number, or CATEGORICAL with a word.",
        param="dataType",
    )


def _refused(result: Result, error: AttuneError) -> ScoreRefused:
    own_id = result.sent_field("id")
    return ScoreRefused(
        id=own_id if isinstance(own_id, str) else None,
        status=status_of(error),
        message=error.message,
        error=_kind(error),
    )


def _kind(error: AttuneError) -> str:
    return next(
        (name for cls, name in _ERRORS.items() if isinstance(error, cls)), "InternalServerError"
    )
