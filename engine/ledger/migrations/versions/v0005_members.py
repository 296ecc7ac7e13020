"""The tree of organisations, members' places in it, lists and segments of members, and what an erasure needs.

A member's mark stands for them in the record of acts, which nobody can alter: without their row it leads to nobody.
Rows from before get theirs with their next change.
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

_INSTANT = sa.DateTime(timezone=True)


def upgrade() -> None:
    op.create_table(
        "organisations",
        sa.Column("id", sa.Text, nullable=False),
        sa.Column("parent", sa.Text),
        sa.Column("kind", sa.Text, nullable=False),
        sa.Column("title", JSONB, nullable=False),
        sa.Column("town", sa.Text),
        sa.Column("updated_at", _INSTANT, nullable=False, server_default=sa.func.now()),
        sa.PrimaryKeyConstraint("id", name="organisations_pk"),
        sa.ForeignKeyConstraint(["parent"], ["organisations.id"], name="organisations_parent_fk"),
    )
    op.create_index("organisations_parent_idx", "organisations", ["parent"])
    op.create_table(
        "lists",
        sa.Column("name", sa.Text, nullable=False),
        sa.Column("updated_at", _INSTANT, nullable=False, server_default=sa.func.now()),
        sa.PrimaryKeyConstraint("name", name="lists_pk"),
    )
    op.create_table(
        "list_members",
        sa.Column("list", sa.Text, nullable=False),
        sa.Column("member", sa.Text, nullable=False),
        sa.PrimaryKeyConstraint("list", "member", name="list_members_pk"),
    )
    op.create_index("list_members_member_idx", "list_members", ["member"])
    op.create_table(
        "segments",
        sa.Column("name", sa.Text, nullable=False),
        sa.Column("predicate", JSONB, nullable=False),
        sa.Column("updated_at", _INSTANT, nullable=False, server_default=sa.func.now()),
        sa.PrimaryKeyConstraint("name", name="segments_pk"),
    )
    op.create_table(
        "member_changes",
        sa.Column("id", sa.BigInteger, sa.Identity(always=True), nullable=False),
        sa.Column("mark", sa.Text, nullable=False),
        sa.Column("at", _INSTANT, nullable=False),
        sa.Column("actor", sa.Text, nullable=False),
        sa.Column("before", JSONB),
        sa.Column("after", JSONB, nullable=False),
        sa.Column("salt", sa.LargeBinary, nullable=False),
        sa.PrimaryKeyConstraint("id", name="member_changes_pk"),
    )
    op.create_index("member_changes_mark_idx", "member_changes", ["mark"])
    op.create_table(
        "erasures",
        sa.Column("pseudonym", sa.Text, nullable=False),
        sa.Column("member_id", sa.Text, nullable=False),
        sa.Column("subjects", JSONB, nullable=False),
        sa.Column("actor", sa.Text, nullable=False),
        sa.Column("asked_at", _INSTANT, nullable=False, server_default=sa.func.now()),
        sa.PrimaryKeyConstraint("pseudonym", name="erasures_pk"),
        sa.UniqueConstraint("member_id", name="erasures_member_id_key"),
    )
    op.add_column("members", sa.Column("organisation", sa.Text))
    op.add_column("members", sa.Column("mark", sa.Text))
    op.alter_column("members", "mark", server_default=sa.text("gen_random_uuid()::text"))
    op.create_index("members_organisation_id_idx", "members", ["organisation", "id"])
    op.create_index("members_subject_idx", "members", ["subject"])


def downgrade() -> None:
    """Loses the tree, lists, segments, members' organisations and what was changed of whom; erasures must be done."""
    for index in ("members_subject_idx", "members_organisation_id_idx"):
        op.drop_index(index, "members")
    for column in ("mark", "organisation"):
        op.drop_column("members", column)
    for table in ("erasures", "member_changes", "segments", "list_members", "lists", "organisations"):
        op.drop_table(table)
