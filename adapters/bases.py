"""The base model that a registry's adapters are made for: what it is, and what happens when a
server or a trainer comes with another.

An adapter fits every base of its shape and means something on one alone. So a registry has one
base model, versions say which one they were made for, and whoever starts with another is refused
until the operator says that the base is meant to change.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass, replace
from pathlib import Path

import sqlalchemy as sa

from adapters import tables
from adapters.activations import move, of_another_base
from adapters.artifacts.digest import weights_digest
from adapters.artifacts.file_digests import FileDigests
from adapters.types import Adapter
from adapters.validate import BaseModel, model_folder, read_base
from core.clock import now_s
from core.database import Database, found, found_all, insert_ignoring_duplicates, row_of
from core.errors import Conflict, Invalid
from core.ids import Digest

logger = logging.getLogger("attune")

_SHOWN = 12
"""Digits of a digest that stand for it where people read and type it."""


def file_digests(home: Path) -> FileDigests:
    """What is remembered of large files in this home."""
    return FileDigests(home / "file_digests.json")


def identify(path: str, home: Path) -> BaseModel:
    """The base model at `path`, told from all others by its digest. Raises Invalid as `read_base`.

    Reads every byte of the weights where they are not those read before.
    """
    digest = weights_digest(model_folder(path), file_digests(home).sha256)
    return replace(read_base(path), digest=digest)


@dataclass(frozen=True, slots=True)
class Bound:
    """The registry's base model."""

    digest: Digest
    name: str
    since_s: float  # 0: from the beginning


class Bases:
    """The one base model of a registry, in SQL."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def bind(self, base: BaseModel, *, accepted: str = "") -> None:
        """Have the registry's adapters be for `base` from now on; does nothing if they are.

        The first base is taken as it comes, and versions of a release that noted none are taken
        to be for it. A registry that has versions for another base raises Invalid, unless
        `accepted` begins this one's digest: then nothing that was made for another is live.
        """
        assert base.digest is not None
        mine = {"id": 1, "digest": base.digest, "name": base.name, "since_s": now_s()}
        with self._database.write() as connection:
            insert_ignoring_duplicates(
                connection, tables.base_model, [row_of(tables.base_model, {**mine, "since_s": 0})]
            )
            known = found(connection, sa.select(tables.base_model).with_for_update(), Bound)
            assert known is not None
            _adopt(connection, known)
            if known.digest == base.digest:
                return
            others = _count_others(connection, base.digest)
            if others and not _is_accepted(accepted, base.digest):
                raise _refusal(known, base, others)
            connection.execute(tables.base_model.update().values(row_of(tables.base_model, mine)))
            retired = _retire(connection, known.digest, base.digest)
        logger.warning(
            "The base model is now %s (%s), before it was %s (%s): %d adapters are answered by it.",
            base.name,
            base.digest[:_SHOWN],
            known.name,
            known.digest[:_SHOWN],
            retired,
        )

    def require(self, base: BaseModel, *, since_s: float) -> None:
        """Raises Conflict unless `base` has been the registry's base model from `since_s` on."""
        with self._database.read() as connection:
            known = found(connection, sa.select(tables.base_model), Bound)
        if known is None:
            return
        if known.digest != base.digest:  # tenants read this: no names, which may be paths
            raise Conflict(
                "Adapters are served on another base model than this trainer's by now. Restart "
                "the trainer with that one; the next feedback starts a new run.",
                code="other_base",
            )
        if known.since_s > since_s:
            raise Conflict(
                "The base model changed while this was under way: what was done before is for "
                "another one. The next feedback starts a new run.",
                code="other_base",
            )


def _adopt(connection: sa.Connection, known: Bound) -> None:
    adopted = connection.execute(
        tables.versions.update()
        .where(tables.versions.c.base_digest.is_(None))
        .values(base_digest=known.digest)
    ).rowcount
    if adopted:
        logger.warning(
            "%d versions did not say which base model they are for: taken to be for %s (%s).",
            adopted,
            known.name,
            known.digest[:_SHOWN],
        )


def _count_others(connection: sa.Connection, digest: Digest) -> int:
    query = sa.select(sa.func.count()).select_from(tables.versions)
    return connection.scalar(query.where(tables.versions.c.base_digest != digest)) or 0


def _is_accepted(accepted: str, digest: Digest) -> bool:
    return len(accepted) >= _SHOWN and digest.startswith(accepted.strip().lower())


def _retire(connection: sa.Connection, before: Digest, now: Digest) -> int:
    """Have the base answer wherever a version of another one is live; how many there were."""
    live = sa.select(tables.adapters).where(tables.adapters.c.live_version.is_not(None))
    why = f"the base model changed from {before[:_SHOWN]} to {now[:_SHOWN]}"
    retired = 0
    for adapter in found_all(connection, live, Adapter):
        if adapter.live_version in of_another_base(connection, adapter.id):
            move(connection, adapter, None, "server", why, allow_rejected=True)
            retired += 1
    return retired


def _refusal(known: Bound, base: BaseModel, others: int) -> Invalid:
    assert base.digest is not None
    return Invalid(
        f"The adapters here were made for the base model {known.name} "
        f"({known.digest[:_SHOWN]}), and this is {base.name} ({base.digest[:_SHOWN]}). Start with "
        f"the former again (--model, ATTUNE_MODEL), or use another ATTUNE_HOME (and database) for "
        f"the latter, or set ATTUNE_ACCEPT_BASE={base.digest[:_SHOWN]} to change the base: then "
        f"{others} versions made for another are kept and no longer served.",
        param="model",
        code="other_base",
    )
