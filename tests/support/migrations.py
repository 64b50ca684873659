"""A database moved to another state of its schema, as releases do when they start."""

from __future__ import annotations

from pathlib import Path

from alembic import command
from alembic.config import Config

from core.database import Database

ROOT = Path(__file__).parents[2]


def migrate(database: Database, revision: str, *, back: bool = False) -> None:
    """Bring the schema to a revision, which lies before this one if `back`."""
    config = Config()
    config.set_main_option("script_location", str(ROOT / "core" / "migrations"))
    config.attributes["database"] = database
    step = command.downgrade if back else command.upgrade
    step(config, revision)
