"""Members have inboxes, events have an outbox in the ledger, and what is to be done at a stated time is a row."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None

_INSTANT = sa.DateTime(timezone=True)


def upgrade() -> None:
    op.create_table(
        "inboxes",
        sa.Column("member_id", sa.Text, nullable=False),
        sa.Column("last", sa.Integer, nullable=False),
        sa.PrimaryKeyConstraint("member_id", name="inboxes_pk"),
    )
    op.create_table(
        "messages",
        sa.Column("member_id", sa.Text, nullable=False),
        sa.Column("number", sa.Integer, nullable=False),
        sa.Column("kind", sa.Text, nullable=False),
        sa.Column("texts", JSONB, nullable=False),
        sa.Column("facts", JSONB, nullable=False),
        sa.Column("once", sa.Text, nullable=False),
        sa.Column("created_at", _INSTANT, nullable=False, server_default=sa.func.now()),
        sa.Column("read_at", _INSTANT),
        sa.PrimaryKeyConstraint("member_id", "number", name="messages_pk"),
        sa.UniqueConstraint("member_id", "once", name="messages_member_id_once_key"),
    )
    op.create_table(
        "events",
        sa.Column("id", sa.BigInteger, sa.Identity(always=True), nullable=False),
        sa.Column("place", sa.BigInteger),
        sa.Column("kind", sa.Text, nullable=False),
        sa.Column("object", sa.Text, nullable=False),
        sa.Column("payload", JSONB, nullable=False),
        sa.Column("created_at", _INSTANT, nullable=False, server_default=sa.func.now()),
        sa.PrimaryKeyConstraint("id", name="events_pk"),
        sa.UniqueConstraint("place", name="events_place_key"),
    )
    op.create_index("events_without_place_idx", "events", ["id"], postgresql_where=sa.text("place is null"))
    op.create_table(
        "schedule",
        sa.Column("id", sa.BigInteger, sa.Identity(always=True), nullable=False),
        sa.Column("kind", sa.Text, nullable=False),
        sa.Column("object", sa.Text, nullable=False),
        sa.Column("name", sa.Text, nullable=False),
        sa.Column("due_at", _INSTANT, nullable=False),
        sa.Column("next_at", _INSTANT, nullable=False),
        sa.Column("payload", JSONB, nullable=False),
        sa.Column("state", sa.Text, nullable=False, server_default="waiting"),
        sa.Column("attempts", sa.Integer, nullable=False, server_default="0"),
        sa.Column("done_at", _INSTANT),
        sa.Column("error", sa.Text),
        sa.Column("created_at", _INSTANT, nullable=False, server_default=sa.func.now()),
        sa.PrimaryKeyConstraint("id", name="schedule_pk"),
        sa.UniqueConstraint("object", "kind", "name", name="schedule_object_kind_name_key"),
    )
    op.create_index(
        "schedule_waiting_idx", "schedule", ["next_at", "id"], postgresql_where=sa.text("state = 'waiting'")
    )
    op.create_index("schedule_failed_idx", "schedule", ["id"], postgresql_where=sa.text("state = 'failed'"))


def downgrade() -> None:
    """Loses all messages and events, and what was planned; a worker of this version plans open drops anew."""
    for table in ("schedule", "events", "messages", "inboxes"):
        op.drop_table(table)
