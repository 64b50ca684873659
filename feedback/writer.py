"""Feedback of many callers, gathered into common commits.

Owns how much goes into one commit and that nobody's batch holds up another's thumb for longer
than one. What a commit does is `feedback.putting`'s.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from concurrent.futures import Future

from core.database_trouble import DATABASE_UNAVAILABLE
from core.errors import AttuneError, Unavailable
from core.group_commit import GroupCommit
from feedback.putting import PutAll, Said, Stored

_MOST = 64
"""Items in a commit: all of it is over in about the time of a few single ones."""


class FeedbackWriter:
    """Stores through `put_all`, from several threads at once; a tenant's turn is its own."""

    def __init__(self, put_all: PutAll, *, patience_s: float = 10.0) -> None:
        self._group: GroupCommit[Said, Stored] = GroupCommit(
            "attune-feedback", put_all, patience_s=patience_s, most=_MOST
        )

    def put_all(self, said: Sequence[Said]) -> Sequence[Stored | AttuneError]:
        """One outcome for each item, in their order, once all that is taken is durable.

        Raises Unavailable if the database is in trouble; some may be stored then, and can be sent
        again all the same.
        """
        until = time.monotonic() + self._group.patience_s
        waiting = [self._group.put(one, turn=one.item.tenant_id) for one in said]
        return [_outcome(one, until) for one in waiting]

    def close(self) -> None:
        """Store what was put so far; later calls are refused."""
        self._group.close()


def _outcome(waiting: Future[Stored], until: float) -> Stored | AttuneError:
    try:
        return waiting.result(max(0.0, until - time.monotonic()))
    except Unavailable:
        raise
    except AttuneError as error:
        return error
    except TimeoutError as error:
        raise Unavailable(
            "The feedback could not be stored in time. Send it again in a moment: what was stored "
            "all the same is not stored twice.",
            code=DATABASE_UNAVAILABLE,
        ) from error
