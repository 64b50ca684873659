"""Whole responses, so that they can be fetched and continued by their ids.

Revision ID: 0008
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the column; answers given before it cannot be fetched."""
    op.add_column("interactions", sa.Column("document", sa.JSON(), nullable=True))


def downgrade() -> None:
    """Drop the column."""
    op.drop_column("interactions", "document")
