"""What was asked and said on this device, in one SQLite file, until the server has it.

Owns `edge.db`: answers and feedback as the sync sends them, each with a running number and a
state. A call that returns has committed (`synchronous=FULL`). Must not know HTTP or the model.
"""

from __future__ import annotations

import json
import logging
import sqlite3
import threading
import uuid
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from core.errors import Conflict, Unavailable
from deploy.edge.types import Answered, Note

logger = logging.getLogger("attune.edge")

State = Literal["waiting", "synced", "rejected"]
_FORMAT = "1"
_LATER_S = 0.001
_WAIT_S = 5.0
"""For a place in the queue, and then for another process: what it is at takes milliseconds."""
_SCHEMA = """
CREATE TABLE IF NOT EXISTS about (name TEXT PRIMARY KEY, value TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS items (
    seq INTEGER PRIMARY KEY AUTOINCREMENT,
    type TEXT NOT NULL CHECK (type IN ('interaction', 'feedback')),
    id TEXT NOT NULL,
    created_at REAL NOT NULL,
    body TEXT NOT NULL,
    state TEXT NOT NULL DEFAULT 'waiting' CHECK (state IN ('waiting', 'synced', 'rejected')),
    server_id TEXT,
    reason TEXT,
    UNIQUE (type, id)
);
CREATE INDEX IF NOT EXISTS items_by_state ON items (state, seq);
"""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What the server made of the item `seq`: its own id for it, or why it was refused."""

    seq: int
    server_id: str | None = None
    reason: str | None = None


class Store:
    """The device's database. For several threads and processes at once."""

    def __init__(self, path: Path) -> None:
        """Open or make the file. Raises Unavailable if that fails, Conflict for another format."""
        self._path = path
        self._lock = threading.Lock()
        with self._translated():
            self._db = sqlite3.connect(
                path, timeout=_WAIT_S, isolation_level=None, check_same_thread=False
            )
            self._db.execute("PRAGMA journal_mode=WAL")
            self._db.execute("PRAGMA synchronous=FULL")
        with self._transaction() as db:
            for statement in _SCHEMA.split(";\n"):
                db.execute(statement)
            about = "INSERT OR IGNORE INTO about VALUES (?, ?)"
            db.executemany(about, [("device", uuid.uuid4().hex), ("format", _FORMAT)])
        if self._about("format") != _FORMAT:
            raise Conflict(f"{path} was written by another version of Attune; update it here.")
        self.device = self._about("device")

    def close(self) -> None:
        """Close the file."""
        self._db.close()

    def add_answer(self, answered: Answered) -> None:
        """Commit one answer."""
        body = asdict(answered)
        body["created_at"] = body.pop("created_at_s")
        with self._transaction() as db:
            _insert(db, "interaction", body)

    def put_note(self, note: Note) -> bool:
        """Commit one feedback; the same id again replaces it. True if it is new.

        The replacement gets a number of its own, so that a sync under way cannot mark it as sent,
        and a time after what it replaces: the newer counts on the server, whatever the clock did.
        Raises Conflict if the id is taken by feedback on another answer.
        """
        body = {name: value for name, value in asdict(note).items() if value is not None}
        body["created_at"] = body.pop("created_at_s")
        with self._transaction() as db:
            where = ("feedback", note.id)
            known = db.execute("SELECT body FROM items WHERE type = ? AND id = ?", where).fetchone()
            if known:
                before = json.loads(known[0])
                if before["completion_id"] != note.completion_id:
                    raise Conflict(
                        f"Feedback '{note.id}' is about another answer already. Give each its own "
                        "id.",
                        param="id",
                    )
                if before == {**body, "created_at": before["created_at"]}:
                    return False
                body["created_at"] = max(note.created_at_s, before["created_at"] + _LATER_S)
            db.execute("DELETE FROM items WHERE type = ? AND id = ?", where)
            _insert(db, "feedback", body)
        return known is None

    def has_answer(self, completion_id: str) -> bool:
        """Whether this device gave the answer."""
        return bool(
            self._read("SELECT 1 FROM items WHERE type = 'interaction' AND id = ?", completion_id)
        )

    def waiting(self, limit: int, after: int = 0) -> list[dict[str, Any]]:
        """Items the server has not acknowledged, oldest first, numbered above `after`.

        Each is the JSON object that is sent, with its number in `seq`.
        """
        rows = self._read(
            "SELECT seq, type, body FROM items WHERE state = 'waiting' AND seq > ? "
            "ORDER BY seq LIMIT ?",
            after,
            limit,
        )
        return [{"seq": seq, "type": kind, **json.loads(body)} for seq, kind, body in rows]

    def settle(self, outcomes: Iterable[Outcome]) -> int:
        """Note what the server said, in one commit; the number of items no longer waiting."""
        settled = 0
        with self._transaction() as db:
            for outcome in outcomes:
                state: State = "synced" if outcome.reason is None else "rejected"
                settled += db.execute(
                    "UPDATE items SET state = ?, server_id = ?, reason = ? "
                    "WHERE seq = ? AND state = 'waiting'",
                    (state, outcome.server_id, outcome.reason, outcome.seq),
                ).rowcount
        return settled

    def counts(self) -> dict[str, dict[State, int]]:
        """How many of each type are in each state."""
        found: dict[str, dict[State, int]] = {
            kind: {"waiting": 0, "synced": 0, "rejected": 0} for kind in ("interaction", "feedback")
        }
        for kind, state, count in self._read(
            "SELECT type, state, count(*) FROM items GROUP BY type, state"
        ):
            found[kind][state] = count
        return found

    def rejected(self, limit: int = 20) -> list[tuple[str, str, str]]:
        """Type, id and reason of what the server refused, newest first."""
        return self._read(
            "SELECT type, id, reason FROM items WHERE state = 'rejected' ORDER BY seq DESC LIMIT ?",
            limit,
        )

    def _about(self, name: str) -> str:
        return str(self._read("SELECT value FROM about WHERE name = ?", name)[0][0])

    def _read(self, statement: str, *values: object) -> list[Any]:
        with self._translated(), self._alone():
            return self._db.execute(statement, values).fetchall()

    @contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        with self._translated(), self._alone():
            self._db.execute("BEGIN IMMEDIATE")
            try:
                yield self._db
                self._db.execute("COMMIT")
            except BaseException:
                if self._db.in_transaction:
                    self._db.execute("ROLLBACK")
                raise

    @contextmanager
    def _alone(self) -> Iterator[None]:
        if not self._lock.acquire(timeout=_WAIT_S):
            raise sqlite3.OperationalError("others were at it all the while")
        try:
            yield
        finally:
            self._lock.release()

    @contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.Error as error:
            # Where the file is, and what SQLite says, is for who runs the device.
            logger.error("%s cannot be written or read: %s", self._path, error)
            raise Unavailable(
                f"The device's {self._path.name} cannot be written or read now. Is the disk full, "
                "or its folder read-only?",
                code="store_unavailable",
            ) from error


def _insert(db: sqlite3.Connection, kind: str, body: Mapping[str, Any]) -> None:
    text = json.dumps(body, ensure_ascii=False, allow_nan=False)
    db.execute(
        "INSERT INTO items (type, id, created_at, body) VALUES (?, ?, ?, ?)",
        (kind, body["id"], body["created_at"], text),
    )
