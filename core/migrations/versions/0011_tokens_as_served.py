"""The token ids of an answer, as the engine read and sampled them.

Revision ID: 0011
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0011"
down_revision = "0010"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the column; of answers given before it no ids are known."""
    op.add_column("interactions", sa.Column("tokens", sa.LargeBinary(), nullable=True))


def downgrade() -> None:
    """Drop the column."""
    op.drop_column("interactions", "tokens")
