"""Operators' actions keep the id of their act, so that a request that is sent again is answered, not done again."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("operator_actions", sa.Column("act", sa.Text))
    op.create_unique_constraint("operator_actions_drop_id_act_key", "operator_actions", ["drop_id", "act"])


def downgrade() -> None:
    """Loses the ids of acts: a request that is sent again from before is done again."""
    op.drop_constraint("operator_actions_drop_id_act_key", "operator_actions")
    op.drop_column("operator_actions", "act")
