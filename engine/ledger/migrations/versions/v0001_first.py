"""The first tables: drops, claims, members, operators' actions, dead letters."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

_INSTANT = sa.DateTime(timezone=True)


def upgrade() -> None:
    op.create_table(
        "drops",
        sa.Column("id", sa.Text, nullable=False),
        sa.Column("spec", JSONB, nullable=False),
        sa.Column("status", sa.Text, nullable=False),
        sa.Column("revision", sa.Integer, nullable=False),
        sa.Column("epoch", sa.Integer, nullable=False),
        sa.Column("updated_at", _INSTANT, nullable=False, server_default=sa.func.now()),
        sa.PrimaryKeyConstraint("id", name="drops_pk"),
    )
    op.create_table(
        "claims",
        sa.Column("drop_id", sa.Text, nullable=False),
        sa.Column("partition", sa.SmallInteger, nullable=False),
        sa.Column("serial", sa.Integer, nullable=False),
        sa.Column("item", sa.SmallInteger, nullable=False),
        sa.Column("quantity", sa.SmallInteger, nullable=False),
        sa.Column("member_id", sa.Text, nullable=False),
        sa.Column("subject", sa.Text, nullable=False),
        sa.Column("nonce", sa.LargeBinary, nullable=False),
        sa.Column("epoch", sa.Integer, nullable=False),
        sa.Column("claimed_at", _INSTANT, nullable=False),
        sa.Column("released_at", _INSTANT),
        sa.PrimaryKeyConstraint("drop_id", "partition", "serial", name="claims_pk"),
    )
    op.create_index("claims_ticket_key", "claims", ["member_id", "drop_id", "nonce"], unique=True)
    op.create_table(
        "members",
        sa.Column("id", sa.Text, nullable=False),
        sa.Column("subject", sa.Text, nullable=False),
        sa.Column("attributes", JSONB, nullable=False),
        sa.Column("updated_at", _INSTANT, nullable=False, server_default=sa.func.now()),
        sa.PrimaryKeyConstraint("id", name="members_pk"),
    )
    op.create_table(
        "operator_actions",
        sa.Column("id", sa.BigInteger, sa.Identity(always=True), nullable=False),
        sa.Column("drop_id", sa.Text, nullable=False),
        sa.Column("revision", sa.Integer, nullable=False),
        sa.Column("verb", sa.Text, nullable=False),
        sa.Column("actor", sa.Text, nullable=False),
        sa.Column("at", _INSTANT, nullable=False),
        sa.Column("change", JSONB, nullable=False),
        sa.Column("before", JSONB),
        sa.Column("after", JSONB, nullable=False),
        sa.PrimaryKeyConstraint("id", name="operator_actions_pk"),
        sa.UniqueConstraint("drop_id", "revision", name="operator_actions_drop_id_revision_key"),
    )
    op.create_table(
        "dead_letters",
        sa.Column("id", sa.BigInteger, sa.Identity(always=True), nullable=False),
        sa.Column("stream", sa.Text, nullable=False),
        sa.Column("entry_id", sa.Text, nullable=False),
        sa.Column("fields", JSONB, nullable=False),
        sa.Column("error", sa.Text, nullable=False),
        sa.Column("at", _INSTANT, nullable=False, server_default=sa.func.now()),
        sa.PrimaryKeyConstraint("id", name="dead_letters_pk"),
        sa.UniqueConstraint("stream", "entry_id", name="dead_letters_stream_entry_id_key"),
    )


def downgrade() -> None:
    """Loses everything."""
    for table in ("dead_letters", "operator_actions", "members", "claims", "drops"):
        op.drop_table(table)
