"""How many single feedback writes a second become durable: one by one, and gathered into commits.

    python -m deploy.bench.feedback [--url postgresql://…] [--clients 16] [--for-s 5]

Writes into the database it is given, by default a new SQLite file. Knows no HTTP.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from core.database import Database
from core.errors import AttuneError
from core.ids import CompletionId, FeedbackId, TenantId, new_id
from feedback.putting import Said
from feedback.store import FeedbackStore
from feedback.types import Feedback
from feedback.writer import FeedbackWriter

Put = Callable[[Feedback], object]


def feedback_rates(url: str, *, clients: int = 16, for_s: float = 5.0) -> dict[str, float]:
    """Writes a second, and the median of one in milliseconds, alone and with all clients."""
    database = Database(url)
    database.upgrade()
    store = FeedbackStore(database)
    writer = FeedbackWriter(store.put_all)

    def gathered(item: Feedback) -> object:
        (outcome,) = writer.put_all([Said(item)])
        if isinstance(outcome, AttuneError):
            raise outcome
        return outcome

    ways: dict[str, Put] = {"one_by_one": store.put, "gathered": gathered}
    found = {}
    for name, put in ways.items():
        for count in (1, clients):
            took_s = _run(put, count, for_s)
            found[f"{name}_{count}_per_s"] = round(len(took_s) / for_s, 1)
            found[f"{name}_{count}_p50_ms"] = round(sorted(took_s)[len(took_s) // 2] * 1e3, 2)
    writer.close()
    database.dispose()
    return found


def _run(put: Put, clients: int, for_s: float) -> list[float]:
    """How long each write took, of clients that write one after another."""
    began = threading.Barrier(clients)

    def client(number: int) -> list[float]:
        tenant = TenantId(f"ten_bench_{number}")
        took_s = []
        began.wait()
        ends = time.monotonic() + for_s
        while (at := time.monotonic()) < ends:
            put(_thumb(tenant))
            took_s.append(time.monotonic() - at)
        return took_s

    with ThreadPoolExecutor(clients) as threads:
        return [one for took_s in threads.map(client, range(clients)) for one in took_s]


def _thumb(tenant: TenantId) -> Feedback:
    return Feedback(
        id=FeedbackId(new_id("fb")),
        tenant_id=tenant,
        created_at_s=time.time(),
        completion_id=CompletionId(new_id("chatcmpl")),
        name="thumb",
        value=True,
    )


def main() -> None:
    """Print the figures as JSON."""
    parser = argparse.ArgumentParser(description="Durable feedback writes a second.")
    parser.add_argument("--url", default="")
    parser.add_argument("--clients", type=int, default=16)
    parser.add_argument("--for-s", type=float, default=5.0)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        url = asked.url or f"sqlite:///{Path(folder) / 'feedback.db'}"
        print(json.dumps(feedback_rates(url, clients=asked.clients, for_s=asked.for_s), indent=2))


if __name__ == "__main__":
    main()
