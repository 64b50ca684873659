"""Which base model versions are made for, and which one answers here.

Revision ID: 0009
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Versions there are get theirs at the first start after it."""
    op.add_column("versions", sa.Column("base_digest", sa.String(length=64), nullable=True))
    op.create_table(
        "base_model",
        sa.Column("id", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("digest", sa.String(length=64), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("since_s", sa.Float(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_base_model")),
    )


def downgrade() -> None:
    """Drop the table and the column."""
    op.drop_table("base_model")
    op.drop_column("versions", "base_digest")
