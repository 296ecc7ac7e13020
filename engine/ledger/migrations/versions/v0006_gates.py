"""Attempts at quizzes; a drop's proof of work stands among its gates."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "quiz_attempts",
        sa.Column("drop_id", sa.Text, nullable=False),
        sa.Column("quiz", sa.Text, nullable=False),
        sa.Column("subject", sa.Text, nullable=False),
        sa.Column("attempt", sa.SmallInteger, nullable=False),
        sa.Column("seed", sa.LargeBinary, nullable=False),
        sa.Column("started_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("expires_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("answered_at", sa.DateTime(timezone=True)),
        sa.Column("answers", JSONB),
        sa.Column("mark", sa.SmallInteger),
        sa.Column("passed", sa.Boolean),
        sa.PrimaryKeyConstraint("drop_id", "quiz", "subject", "attempt", name="quiz_attempts_pk"),
    )
    op.execute(
        """
        update drops set spec = (spec - 'proof_of_work') || jsonb_build_object(
            'gates', jsonb_strip_nulls(jsonb_build_object('proof_of_work', spec->'proof_of_work')))
        where spec ? 'proof_of_work'
        """
    )


def downgrade() -> None:
    """Loses the attempts, and of every drop all gates but the proof of work."""
    op.execute(
        """
        update drops set spec = (spec - 'gates') || jsonb_build_object('proof_of_work', spec->'gates'->'proof_of_work')
        where spec ? 'gates'
        """
    )
    op.drop_table("quiz_attempts")
