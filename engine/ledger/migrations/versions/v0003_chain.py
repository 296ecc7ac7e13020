"""Operators' actions are chained by hashes, and hold releases and members' attributes; an index of released claims.

Rows from before have no hash: the chain begins with the first row after this migration.
"""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("operator_actions", sa.Column("object", sa.Text))
    op.add_column("operator_actions", sa.Column("applied_at", sa.DateTime(timezone=True)))
    op.add_column("operator_actions", sa.Column("hash", sa.LargeBinary))
    for column in ("drop_id", "revision"):
        op.alter_column("operator_actions", column, nullable=True)
    op.create_index(
        "claims_released_idx", "claims", ["drop_id", "partition"], postgresql_where=sa.text("released_at is not null")
    )


def downgrade() -> None:
    op.drop_index("claims_released_idx", "claims")
    op.execute("delete from operator_actions where drop_id is null or revision is null")
    for column in ("drop_id", "revision"):
        op.alter_column("operator_actions", column, nullable=False)
    for column in ("hash", "applied_at", "object"):
        op.drop_column("operator_actions", column)
