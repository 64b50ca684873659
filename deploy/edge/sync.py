"""Answers and feedback of this device, sent to the server: all of it, once.

Owns batches and what the server's words mean for the store. An item counts as sent when the
server has said that it is committed there; whatever breaks before, the item is sent again and the
server knows it by its id. So it may stop anywhere and begin anew.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from core.errors import Conflict, Forbidden, TooLarge, Unauthenticated
from core.files import locked
from deploy.edge.http import Server
from deploy.edge.store import Outcome, Store

BATCH_ITEMS = 100
BATCH_BYTES = 3 << 20
ROUTE = "/v1/edge/sync"


@dataclass(slots=True)
class Report:
    """What a sync did, in items. `left` are still waiting here."""

    stored: int = 0
    already_stored: int = 0
    rejected: int = 0
    left: int = 0

    def __str__(self) -> str:
        return (
            f"{self.stored} stored, {self.already_stored} already there, {self.rejected} rejected, "
            f"{self.left} left"
        )


def sync(store: Store, folder: Path, server: Server, report: Report) -> None:
    """Send what waits, batch by batch, until nothing does; `report` counts along.

    Raises Unauthenticated or Forbidden for a wrong key, Broken when the tries are used up, Conflict
    if the server leaves items without an answer or another sync of `folder` is under way. What is
    not acknowledged stays.
    """
    busy = f"Another sync of {folder} is under way; wait for it."
    try:
        with locked(folder / ".sync.lock", busy, code="sync_under_way"):
            _send_all(store, server, report)
    finally:
        report.left = sum(of["waiting"] for of in store.counts().values())


def _send_all(store: Store, server: Server, report: Report) -> None:
    sizes = BATCH_ITEMS
    after = 0
    while batch := _batch(store.waiting(sizes, after)):
        try:
            answer = server.post(ROUTE, json={"device": store.device, "items": batch})
        except TooLarge as error:
            if len(batch) > 1:
                sizes = len(batch) // 2
                continue
            outcomes = [Outcome(batch[0]["seq"], reason=error.message)]
            report.rejected += store.settle(outcomes)
            continue
        except (Unauthenticated, Forbidden) as error:
            raise type(error)(
                f"{error.message} Nothing more was sent. A sync needs a key with the scope "
                "'edge', one for each device.",
                code=error.code,
            ) from error
        outcomes = _outcomes(batch, answer, report)
        store.settle(outcomes)
        if len(outcomes) < len(batch):
            raise Conflict(
                f"The server left {len(batch) - len(outcomes)} of {len(batch)} items without an "
                "answer; they stay here. Is it the same version of Attune?",
                code="sync_incomplete",
            )
        after = batch[-1]["seq"]
        sizes = BATCH_ITEMS


def _batch(items: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """As many of the items as fit into one call; always the first."""
    taken: list[dict[str, Any]] = []
    size = 0
    for item in items:
        size += len(json.dumps(item, ensure_ascii=False).encode()) + 2
        if taken and size > BATCH_BYTES:
            break
        taken.append(item)
    return taken


def _outcomes(
    batch: Sequence[Mapping[str, Any]], answer: Mapping[str, Any], report: Report
) -> list[Outcome]:
    """What the server said of each item of the batch; words it did not say are not made up."""
    sent = {item["seq"] for item in batch}
    found: dict[int, Outcome] = {}
    results = answer.get("results")
    for result in results if isinstance(results, list) else []:
        seq = result.get("seq") if isinstance(result, dict) else None
        if not isinstance(seq, int) or seq not in sent or seq in found:
            continue
        status = result.get("status")
        if status == "rejected":
            report.rejected += 1
            problem = result.get("error")
            told = problem.get("message") if isinstance(problem, dict) else None
            found[seq] = Outcome(seq, reason=str(told or "The server gave no reason.")[:1_000])
        elif status in ("stored", "already_stored"):
            report.stored += status == "stored"
            report.already_stored += status == "already_stored"
            found[seq] = Outcome(seq, server_id=str(result.get("id")))
    return list(found.values())
