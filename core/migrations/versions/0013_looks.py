"""What a trainer last saw of an adapter's feedback.

Revision ID: 0013
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0013"
down_revision = "0012"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """A table without rows: an adapter gets one when somebody asks about it."""
    op.create_table(
        "looks",
        sa.Column("adapter_id", sa.String(length=40), nullable=False),
        sa.Column("waiting_s", sa.Float(), nullable=True),
        sa.Column("answered_s", sa.Float(), nullable=False),
        sa.Column("look", sa.Text(), nullable=True),
        sa.PrimaryKeyConstraint("adapter_id", name=op.f("pk_looks")),
    )
    op.create_index("ix_looks_waiting", "looks", ["waiting_s"])


def downgrade() -> None:
    """Drop the table."""
    op.drop_index("ix_looks_waiting", table_name="looks")
    op.drop_table("looks")
