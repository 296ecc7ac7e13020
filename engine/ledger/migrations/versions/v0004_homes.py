"""The ledger names the store that decides, so that nobody is served by one that was left behind."""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "homes",
        sa.Column("partition", sa.SmallInteger, nullable=False),
        sa.Column("home", sa.Text, nullable=False),
        sa.Column("named_at", sa.DateTime(timezone=True), nullable=False, server_default=sa.func.now()),
        sa.PrimaryKeyConstraint("partition", name="homes_pk"),
    )


def downgrade() -> None:
    """Loses the names, which the next worker writes down anew."""
    op.drop_table("homes")
