"""A kind of work as one would add it: counts words, in two durable steps.

Run as a program it is a worker with this kind alone, until it is told to stop.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

if __name__ == "__main__":
    sys.path[:0] = [str(Path(__file__).parents[2])]

from core.bodies import Body, Resource, says
from core.errors import Conflict
from core.ids import TenantId
from core.settings import Settings
from core.work.kind import Durable, Kind, Listing
from core.work.types import Spec, Work


@dataclass(frozen=True, slots=True)
class CountFacts:
    text: str
    words: int | None = None


class CountOrder(Body):
    text: Annotated[str, says("Say what to count.")]


class CountView(Resource):
    object: Literal["count"] = "count"
    state: str
    words: int | None
    error: str | None


class Count(Kind[CountFacts, CountOrder]):
    """Counts the words of a text."""

    spec = Spec(
        name="count",
        noun="count",
        prefix="cnt",
        active=("queued", "counting"),
        ended={"counted": "is counted", "failed": "failed", "cancelled": "was cancelled"},
        facts=CountFacts,
    )
    order = CountOrder
    listing = Listing
    view = CountView
    step_prefix = "count."
    is_ready = False

    def open(self, tenant_id: TenantId, order: CountOrder) -> Work[CountFacts]:
        return self.ledger.open(tenant_id, order.text[:64], CountFacts(order.text))[0]

    def present(self, work: Work[CountFacts]) -> CountView:
        return CountView(id=work.id, state=work.state, words=work.facts.words, error=work.error)

    def prepare(self) -> None:
        time.sleep(0.5)  # as loading a model does
        self.is_ready = True

    def workflow(self, durable: Durable) -> Callable[[str], object]:
        read, count = durable(self.read), durable(self.count)
        return lambda work_id: count(work_id, read(work_id))

    def read(self, work_id: str) -> list[str]:
        self.folder(work_id).mkdir(parents=True, exist_ok=True)  # the worker removes it
        return self.ledger.advance(work_id, "counting", message="Reading.").facts.text.split()

    def count(self, work_id: str, words: list[str]) -> None:
        if words == ["forbidden"]:
            raise Conflict("This word is not counted.")
        if words == ["broken"]:
            raise KeyError("a fault of ours")
        if words == ["interrupted"]:
            tried = self.folder(work_id) / "tried"
            if not tried.exists():
                tried.touch()
                time.sleep(600)  # until the worker is killed
            if not self.is_ready:
                raise KeyError("prepare")
        while words == ["endless"]:  # until somebody asks for it to stop
            self.ledger.advance(work_id, "counting", message="Still counting.")
            time.sleep(0.02)
        self.ledger.event(work_id, "metrics", "counted", {"words": len(words)}, key="counted")
        self.ledger.finish(work_id, "counted", words=len(words))


if __name__ == "__main__":
    from trainer.worker import Worker

    Worker(Settings(), [Count]).run(lambda: False)
