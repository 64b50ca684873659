"""When each worker last looked for work, and what is in its way.

Revision ID: 0006
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the table; workers fill it."""
    op.create_table(
        "workers",
        sa.Column("id", sa.String(length=64), nullable=False),
        sa.Column("looked_at_s", sa.Float(), nullable=True),
        sa.Column("trouble", sa.String(length=400), nullable=True),
        sa.Column("told_at_s", sa.Float(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_workers")),
    )


def downgrade() -> None:
    """Drop the table."""
    op.drop_table("workers")
