"""Draws: what was committed to and published, and who is offered which prize."""

import sqlalchemy as sa
from alembic import op

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None

_INSTANT = sa.DateTime(timezone=True)


def upgrade() -> None:
    op.create_table(
        "draws",
        sa.Column("drop_id", sa.Text, nullable=False),
        sa.Column("state", sa.Text, nullable=False),
        sa.Column("secret", sa.LargeBinary, nullable=False),
        sa.Column("document", sa.LargeBinary, nullable=False),
        sa.Column("commitment", sa.Text, nullable=False),
        sa.Column("root", sa.Text),
        sa.Column("entrants", sa.Integer),
        sa.Column("committed_at", _INSTANT, nullable=False),
        sa.Column("closed_at", _INSTANT),
        sa.Column("revealed_at", _INSTANT),
        sa.PrimaryKeyConstraint("drop_id", name="draws_pk"),
    )
    op.create_table(
        "draw_pages",
        sa.Column("draw_id", sa.Text, nullable=False),
        sa.Column("number", sa.Integer, nullable=False),
        sa.Column("first", sa.Text(collation="C"), nullable=False),
        sa.Column("root", sa.LargeBinary, nullable=False),
        sa.Column("entries", sa.LargeBinary, nullable=False),
        sa.PrimaryKeyConstraint("draw_id", "number", name="draw_pages_pk"),
    )
    op.create_table(
        "awards",
        sa.Column("draw_id", sa.Text, nullable=False),
        sa.Column("place", sa.Integer, nullable=False),
        sa.Column("entrant", sa.Text, nullable=False),
        sa.Column("member_id", sa.Text, nullable=False),
        sa.Column("subject", sa.Text, nullable=False),
        sa.Column("prize", sa.Text),
        sa.Column("state", sa.Text, nullable=False),
        sa.Column("offered_at", _INSTANT),
        sa.Column("confirm_by", _INSTANT),
        sa.Column("ticket_until", _INSTANT),
        sa.Column("changed_at", _INSTANT, nullable=False),
        sa.PrimaryKeyConstraint("draw_id", "place", name="awards_pk"),
        sa.UniqueConstraint("draw_id", "subject", name="awards_draw_id_subject_key"),
    )
    op.create_index("awards_subject_idx", "awards", ["subject"])
    op.create_table(
        "draw_points",
        sa.Column("draw_id", sa.Text, nullable=False),
        sa.Column("subject", sa.Text, nullable=False),
        sa.Column("points", sa.Integer, nullable=False),
        sa.PrimaryKeyConstraint("draw_id", "subject", name="draw_points_pk"),
    )


def downgrade() -> None:
    """Loses the draws and their secrets: one that is not revealed can never be."""
    for table in ("draw_points", "awards", "draw_pages", "draws"):
        op.drop_table(table)
