"""Who gave each item of feedback, and whose device a key is.

Revision ID: 0007
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add both columns; of what was there before neither is known."""
    op.add_column("feedback", sa.Column("given_by", sa.String(length=40), nullable=True))
    op.add_column("api_keys", sa.Column("device", sa.String(length=32), nullable=True))


def downgrade() -> None:
    """Drop both."""
    op.drop_column("api_keys", "device")
    op.drop_column("feedback", "given_by")
