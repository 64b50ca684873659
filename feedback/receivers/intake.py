"""What happens to the items of a call, whichever receiver read them: checked, then stored.

Whether an answer was given to the caller is asked of `Caller`; nothing is stored of a dry run.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

from core.errors import AttuneError, Invalid, NotFound, Unavailable
from core.ids import CompletionId
from feedback.interactions import InteractionStore
from feedback.putting import PutAll, Said, Stored
from feedback.receivers.base import Caller, Receiver, Result
from feedback.types import Change, Feedback, Interaction, Lesson


def take_in(
    receiver: Receiver[Any],
    sent: Any,
    caller: Caller,
    interactions: InteractionStore,
    put_all: PutAll,
    lesson_of: Callable[[Feedback], Lesson],
) -> list[Result]:
    """One result per item of the call, in its order; what is stored is durable on return.

    Answers come before feedback, so that one call may bring both. What items can teach is looked
    up before they are stored: a call that fails has stored none.
    """
    items = receiver.items(sent)
    if len(items) > receiver.max_items:
        raise Invalid(
            f"At most {receiver.max_items} items a call, not {len(items):,}: send the rest in "
            "further calls.",
            param="items",
            code="too_many_items",
        )
    giver = receiver.giver(sent, caller)
    results = [_read(receiver, item, sent, caller, giver) for item in items]
    if receiver.tells_lessons:
        results = [_taught(result, lesson_of) for result in results]
    if receiver.dry_run(sent):
        return results
    answers = [result.item for result in results if isinstance(result.item, Interaction)]
    seen = set(interactions.stored(caller.tenant_id, [answer.id for answer in answers]))
    # An answer told before stays as it was: neither its row nor what is learnt from it may change.
    new = {answer.id: answer for answer in reversed(answers) if answer.id not in seen}
    interactions.append(list(reversed(new.values())))
    said = [
        Said(result.item, receiver.newest_wins, caller.own_only)
        for result in results
        if isinstance(result.item, Feedback)
    ]
    stored = iter(put_all(said))
    return [_outcome(result, seen, stored) for result in results]


def _read(receiver: Receiver[Any], item: Any, sent: Any, caller: Caller, giver: str) -> Result:
    if isinstance(item, Result):
        return item
    try:
        read = receiver.read(item, sent, caller)
        if isinstance(read, Feedback):
            _check_issued(read, caller)
            read = replace(read, given_by=giver)
    except Unavailable:
        raise  # the call as a whole can be sent again; an item that is refused is not
    except AttuneError as error:
        return Result(item, error=error)
    return Result(item, read)


def _taught(result: Result, lesson_of: Callable[[Feedback], Lesson]) -> Result:
    if isinstance(result.item, Feedback):
        return replace(result, lesson=lesson_of(result.item))
    return result


def _check_issued(item: Feedback, caller: Caller) -> None:
    for completion_id in item.completion_ids:
        if not caller.issued(completion_id):
            raise NotFound(
                f"No answer '{completion_id[:100]}'. Send the id the answer came with "
                "(its 'id' field).",
                param="completion_id",
                code="completion_not_found",
            )


def _outcome(
    result: Result, seen: set[CompletionId], stored: Iterator[Stored | AttuneError]
) -> Result:
    item = result.item
    if isinstance(item, Interaction):
        change: Change = "unchanged" if item.id in seen else "created"
        seen.add(item.id)
        return Result(result.sent, item, change)
    if isinstance(item, Feedback):
        outcome = next(stored)
        if isinstance(outcome, AttuneError):
            return Result(result.sent, error=outcome)
        return Result(result.sent, *outcome, lesson=result.lesson)
    return result
