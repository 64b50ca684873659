"""A database that has been used for long, and how much of it a statement looks at."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from core.database import Database

MANY, SOME = 100_000, 20_000

# Ten thousand rows of a tenant that has long been idle lie among those of a busy one.
_TENANT = "CASE n / 10000 WHEN 1 THEN 'idle' ELSE 'acme' END"

_FILLED = {
    "tenants": (1, "id, name, created_at_s", "'acme', 'acme', 1.0"),
    "adapters": (
        2,
        "id, tenant_id, name, scope, created_at_s, generation, next_number, learning",
        "'ada_' || n, 'acme', 'adapter-' || n, 'tenant', 1.0, 0, 30000, J('{}')",
    ),
    "api_keys": (
        SOME,
        "public_id, tenant_id, secret_sha256, scopes, label, created_at_s",
        "'k' || n, 'acme', 'x', J('[\"admin\"]'), '', n",
    ),
    "versions": (
        SOME,
        "adapter_id, number, state, digest, size_bytes, rank, target_modules, source, run_id, "
        "created_at_s, note, base_digest",
        "'ada_1', n, 'rejected', 'd', 1, 8, J('[]'), 'run', 'run_' || n, 1.0, '', '"
        + "b" * 64
        + "'",
    ),
    "base_model": (1, "id, digest, name, since_s", f"1, '{'b' * 64}', 'base', 0.0"),
    "workers": (8, "id, looked_at_s, told_at_s", "'worker ' || n, n, n"),
    "activations": (SOME, "adapter_id, version, actor, reason, at_s", "'ada_1', n, '', '', 1.0"),
    "changes": (SOME, "topic, subject, at_s", "'tenants', 'acme', 1.0"),
    "engine_reports": (
        SOME,
        "server_id, engine_id, state, detail, at_s",
        "'server ' || (n / 100), n, 'resident', '', 1.0",
    ),
    "snapshots": (
        SOME,
        "digest, adapter_id, created_at_s, artifact_uri, counts",
        "'d' || n, 'ada_1', 1.0, '', J('{}')",
    ),
    "work": (
        SOME,
        "id, kind, tenant_id, adapter_id, state, progress, message, created_at_s, updated_at_s, "
        "finished_at_s, model, layout, precision, last_feedback_seq, last_feedback_at_s, facts, "
        "request_key, active_key",
        "'run_' || n, CASE n % 2 WHEN 0 THEN 'learn' ELSE 'export' END, 'acme', 'ada_1', "
        "'failed', 1.0, '', n, n, n, 'adapter-1@' || n, 'merged', 'int8', n, 1.0, "
        'J(\'{"trigger": "", "live_before": null, "version": 1}\'), \'ada_1\', \'run_\' || n',
    ),
    "work_events": (
        SOME,
        "work_id, at_s, type, message, data",
        "'run_' || (n % 100 + 1), n, 'message', '', J('{}')",
    ),
    "interactions": (
        MANY,
        "id, tenant_id, endpoint, created_at_s, outcome, model_requested, model_answered, "
        "adapter_id, explored, prompt, answers, sampling, request, document",
        "'c' || n, " + _TENANT + ", 'chat.completions', n, 'completed', 'm', 'm', "
        "CASE n % 5 WHEN 0 THEN NULL ELSE 'ada_1' END, FALSE, "
        'J(\'[{"role": "user", "content": "q"}]\'), J(\'["a"]\'), J(\'{}\'), J(\'{}\'), '
        "CASE n % 10 WHEN 9 THEN J('{}') END",
    ),
    "feedback": (
        MANY,
        "tenant_id, id, kind, created_at_s, updated_at_s, completion_id, choice_index, name, "
        "value, source_kind, end_user, tags, metadata",
        _TENANT + ", 'f' || n, 'thumb', n, n, 'c' || n, 0, 'thumb', J('true'), 'human', "
        "'user ' || (n % 1000), J('{}'), J('{}')",
    ),
    "feedback_targets": (
        MANY,
        "feedback_seq, completion_id, adapter_id",
        "n, 'c' || n, CASE n % 5 WHEN 0 THEN NULL ELSE 'ada_1' END",
    ),
}
"""Table -> how many rows, columns, and their values in the row of number n; J(…) is JSON."""


@dataclass
class Executed:
    """A statement and how much was looked at: rows on Postgres, the machine's steps on SQLite."""

    sql: str
    looked_at: int
    plan: str

    def __str__(self) -> str:
        return f"{self.looked_at:,} looked at by\n{self.sql}\n{self.plan}"


def fill(database: Database) -> None:
    """Put the rows in, one statement a table; no statistics are gathered by the way."""
    with database.write() as connection:
        for table, (rows, columns, values) in _FILLED.items():
            if database.is_sqlite:
                numbers = (
                    "(WITH RECURSIVE c(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM c "
                    f"WHERE n < {rows}) SELECT n FROM c) AS numbers"
                )
                values = re.sub(r"J\(('[^']*')\)", r"\1", values)
            else:
                numbers = f"generate_series(1, {rows}) AS numbers(n)"
                values = re.sub(r"J\(('[^']*')\)", r"CAST(\1 AS JSON)", values)
                off = f"ALTER TABLE {table} SET (autovacuum_enabled = false)"
                connection.execute(sa.text(off))
            insert = f"INSERT INTO {table} ({columns}) SELECT {values} FROM {numbers}"
            connection.execute(sa.text(insert))


def gather(database: Database, statistics: str) -> None:
    """Leave the planner with `none` at all, with `stale` ones of empty tables, or `fresh` ones."""
    with database.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        if statistics == "fresh":
            connection.execute(sa.text("ANALYZE"))
        elif database.is_sqlite:
            connection.execute(sa.text("ANALYZE"))  # makes the table that is emptied
            connection.execute(sa.text("DELETE FROM sqlite_stat1"))
            if statistics == "stale":  # as of a tenant with three rows
                few = "SELECT tbl_name, name, '3 1 1 1 1 1' FROM sqlite_master WHERE type = 'index'"
                connection.execute(sa.text(f"INSERT INTO sqlite_stat1 {few}"))
            connection.execute(sa.text("ANALYZE sqlite_master"))
        else:
            tuples = -1 if statistics == "none" else 0
            connection.execute(sa.text("DELETE FROM pg_statistic"))
            connection.execute(
                sa.text(
                    f"UPDATE pg_class SET relpages = 0, reltuples = {tuples} WHERE relnamespace = "
                    "'public'::regnamespace"
                )
            )
    database.dispose()  # open connections know the statistics they began with


@contextmanager
def watched(database: Database) -> Iterator[list[Executed]]:
    """Every statement executed inside, with what it looked at."""
    watch = _on_sqlite if database.is_sqlite else _on_postgres
    with watch(database.engine) as seen:
        yield seen


_STEP = 50


@contextmanager
def _on_sqlite(engine: sa.Engine) -> Iterator[list[Executed]]:
    seen: list[Executed] = []

    def count() -> None:
        if seen:
            seen[-1].looked_at += _STEP

    def before(connection: Any, cursor: Any, sql: str, params: Any, _: Any, many: Any) -> None:
        raw = connection.connection.driver_connection
        raw.set_progress_handler(None, 0)
        plan = []
        if not many and sql.split()[0] in ("SELECT", "UPDATE", "DELETE", "INSERT"):
            plan = raw.execute(f"EXPLAIN QUERY PLAN {sql}", params).fetchall()
        seen.append(Executed(sql, 0, "\n".join(str(row[3]) for row in plan)))
        raw.set_progress_handler(count, _STEP)

    sa.event.listen(engine, "before_cursor_execute", before)
    yield seen
    sa.event.remove(engine, "before_cursor_execute", before)


@contextmanager
def _on_postgres(engine: sa.Engine) -> Iterator[list[Executed]]:
    seen: list[Executed] = []

    def before(
        connection: Any, cursor: Any, sql: str, params: Any, context: Any, many: Any
    ) -> None:
        if many or sql.split()[0] not in ("SELECT", "UPDATE", "DELETE"):
            return
        raw = connection.connection.driver_connection
        raw.execute("SAVEPOINT plan")
        explain = "EXPLAIN (ANALYZE, TIMING OFF, FORMAT JSON)"
        (plan,) = raw.execute(f"{explain} {sql}", params).fetchone()
        raw.execute("ROLLBACK TO SAVEPOINT plan")
        looked_at = sum(_rows(node) for node in _nodes(plan[0]["Plan"]))
        seen.append(Executed(sql, int(looked_at), "\n".join(_lines(plan[0]["Plan"]))))

    sa.event.listen(engine, "before_cursor_execute", before)
    yield seen
    sa.event.remove(engine, "before_cursor_execute", before)


def _nodes(node: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield node
    for inner in node.get("Plans", ()):
        yield from _nodes(inner)


def _lines(node: dict[str, Any], indent: str = "") -> Iterator[str]:
    names = [str(node[key]) for key in ("Node Type", "Relation Name", "Index Name") if key in node]
    conditions = [str(node[key]) for key in ("Index Cond", "Filter") if key in node]
    rows = f"{_rows(node):,.0f} rows, {node['Plan Rows']} expected"
    yield f"{indent}{' '.join(names)}: {rows}; {'; '.join(conditions)}"
    for inner in node.get("Plans", ()):
        yield from _lines(inner, indent + "  ")


def _rows(node: dict[str, Any]) -> float:
    looked = ("Actual Rows", "Rows Removed by Filter", "Rows Removed by Index Recheck")
    removed = ("Rows Removed by Join Filter",)
    return float(node["Actual Loops"] * sum(node.get(name, 0) for name in (*looked, *removed)))
