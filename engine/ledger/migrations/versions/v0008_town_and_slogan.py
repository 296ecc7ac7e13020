"""Claims say for which town and with which slogan they were made."""

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0006"
branch_labels = None
depends_on = None

_NAMES = ("town", "slogan")


def upgrade() -> None:
    for name in _NAMES:
        op.add_column("claims", sa.Column(name, sa.SmallInteger, nullable=False, server_default="0"))


def downgrade() -> None:
    """Loses them; the store keeps its tallies until it is rebuilt."""
    for name in _NAMES:
        op.drop_column("claims", name)
