"""The tables of the ledger. Migrations make them; a test compares the two."""

from sqlalchemy import (
    BigInteger,
    Column,
    DateTime,
    ForeignKey,
    Identity,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    SmallInteger,
    Table,
    Text,
    UniqueConstraint,
    func,
    text,
)
from sqlalchemy.dialects.postgresql import JSONB

metadata = MetaData(
    naming_convention={
        "pk": "%(table_name)s_pk",
        "uq": "%(table_name)s_%(column_0_N_name)s_key",
        "ix": "%(table_name)s_%(column_0_N_name)s_idx",
    }
)
_Instant = DateTime(timezone=True)

drops = Table(
    "drops",
    metadata,
    Column("id", Text, primary_key=True),
    Column("spec", JSONB, nullable=False),
    Column("status", Text, nullable=False),
    Column("revision", Integer, nullable=False),
    Column("epoch", Integer, nullable=False),
    Column("updated_at", _Instant, nullable=False, server_default=func.now()),
)

# One row for each accepted claim; written once, never changed but for `released_at`.
claims = Table(
    "claims",
    metadata,
    Column("drop_id", Text, primary_key=True),
    Column("partition", SmallInteger, primary_key=True),
    Column("serial", Integer, primary_key=True),
    Column("item", SmallInteger, nullable=False),  # its number in the drop, from 1
    Column("quantity", SmallInteger, nullable=False),
    Column("member_id", Text, nullable=False),
    Column("subject", Text, nullable=False),
    Column("nonce", LargeBinary, nullable=False),
    Column("epoch", Integer, nullable=False),
    Column("claimed_at", _Instant, nullable=False),
    Column("released_at", _Instant),
    # One ticket, one claim, for ever; also the way from a member to their claims.
    Index("claims_ticket_key", "member_id", "drop_id", "nonce", unique=True),
    # What was given back, summed up by the reconciler all the time.
    Index("claims_released_idx", "drop_id", "partition", postgresql_where=text("released_at is not null")),
)

# Union bodies: a tree of the city, its towns, and enterprises under them.
organisations = Table(
    "organisations",
    metadata,
    Column("id", Text, primary_key=True),
    Column("parent", Text, ForeignKey("organisations.id", name="organisations_parent_fk")),  # none for a root
    Column("kind", Text, nullable=False),
    Column("title", JSONB, nullable=False),
    Column("town", Text),
    Column("updated_at", _Instant, nullable=False, server_default=func.now()),
    Index(None, "parent"),
)

# What is known of members; their organisation stands beside their other attributes.
members = Table(
    "members",
    metadata,
    Column("id", Text, primary_key=True),
    Column("subject", Text, nullable=False),
    Column("attributes", JSONB, nullable=False),
    Column("updated_at", _Instant, nullable=False, server_default=func.now()),
    Column("organisation", Text),
    Column("mark", Text, server_default=text("gen_random_uuid()::text")),  # stands for them in the record of acts
    Index(None, "organisation", "id"),
    Index(None, "subject"),
)

# Lists of members, each by their id or by their subject: people may be on one who are no members yet.
lists = Table(
    "lists",
    metadata,
    Column("name", Text, primary_key=True),
    Column("updated_at", _Instant, nullable=False, server_default=func.now()),
)
list_members = Table(
    "list_members",
    metadata,
    Column("list", Text, primary_key=True),
    Column("member", Text, primary_key=True),
    Index(None, "member"),
)

# Predicates under a name (engine/members/predicate.py).
segments = Table(
    "segments",
    metadata,
    Column("name", Text, primary_key=True),
    Column("predicate", JSONB, nullable=False),
    Column("updated_at", _Instant, nullable=False, server_default=func.now()),
)

# What was changed of a member: the record of acts has its digest alone, for it keeps everything for ever.
member_changes = Table(
    "member_changes",
    metadata,
    Column("id", BigInteger, Identity(always=True), primary_key=True),
    Column("mark", Text, nullable=False),
    Column("at", _Instant, nullable=False),
    Column("actor", Text, nullable=False),
    Column("before", JSONB),
    Column("after", JSONB, nullable=False),
    Column("salt", LargeBinary, nullable=False),
    Index(None, "mark"),
)

# Erasures that were asked for and are not done yet (engine/ledger/erase.py).
erasures = Table(
    "erasures",
    metadata,
    Column("pseudonym", Text, primary_key=True),
    Column("member_id", Text, nullable=False),
    Column("subjects", JSONB, nullable=False),  # that they ever were, each with its pseudonym
    Column("actor", Text, nullable=False),
    Column("asked_at", _Instant, nullable=False, server_default=func.now()),
    UniqueConstraint("member_id"),
)

# Who did what, when, and what was before and after; only ever added to, and chained (engine/ledger/actions.py).
operator_actions = Table(
    "operator_actions",
    metadata,
    Column("id", BigInteger, Identity(always=True), primary_key=True),
    Column("drop_id", Text),  # none for an act on anything else
    Column("revision", Integer),  # of the drop, for acts on a drop
    Column("object", Text),  # `drop:…`, `claim:…`, `member:…`, `ledger:…`, `key:…`; from 0003 on
    Column("verb", Text, nullable=False),
    Column("actor", Text, nullable=False),
    Column("act", Text),  # from migration 0002 on; by it a repeated request is recognised
    Column("at", _Instant, nullable=False),
    Column("applied_at", _Instant),  # when the store did it, by its clock
    Column("change", JSONB, nullable=False),
    Column("before", JSONB),
    Column("after", JSONB, nullable=False),
    Column("hash", LargeBinary),  # from migration 0003 on
    UniqueConstraint("drop_id", "revision"),
    UniqueConstraint("drop_id", "act"),
)

# Which store decides for a partition (engine/ledger/homes.py).
homes = Table(
    "homes",
    metadata,
    Column("partition", SmallInteger, primary_key=True),
    Column("home", Text, nullable=False),  # the store's replication id
    Column("named_at", _Instant, nullable=False, server_default=func.now()),
)

# What could not be read or does not fit: kept whole, with the reason, and alarmed. Never dropped.
dead_letters = Table(
    "dead_letters",
    metadata,
    Column("id", BigInteger, Identity(always=True), primary_key=True),
    Column("stream", Text, nullable=False),
    Column("entry_id", Text, nullable=False),
    Column("fields", JSONB, nullable=False),  # name → hexadecimal bytes
    Column("error", Text, nullable=False),
    Column("at", _Instant, nullable=False, server_default=func.now()),
    UniqueConstraint("stream", "entry_id"),
)
