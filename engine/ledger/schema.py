"""The tables of the ledger. Migrations make them; a test compares the two."""

from sqlalchemy import (
    BigInteger,
    Boolean,
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
    # Numbers of the town (engine/towns/) and of the drop's slogan; 0 where the drop counts by neither.
    Column("town", SmallInteger, nullable=False, server_default="0"),
    Column("slogan", SmallInteger, nullable=False, server_default="0"),
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
    Column("object", Text),  # `drop:…`, `draw:…`, `member:…`, `campaign:…` and others (actions.py); from 0003 on
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

# What stands over several drops (engine/campaigns/); each of those drops also knows its place in it.
campaigns = Table(
    "campaigns",
    metadata,
    Column("id", Text, primary_key=True),
    Column("spec", JSONB, nullable=False),
    Column("status", Text, nullable=False),
    Column("revision", Integer, nullable=False),
    Column("updated_at", _Instant, nullable=False, server_default=func.now()),
)

# Which store decides for a partition (engine/ledger/homes.py).
homes = Table(
    "homes",
    metadata,
    Column("partition", SmallInteger, primary_key=True),
    Column("home", Text, nullable=False),  # the store's replication id
    Column("named_at", _Instant, nullable=False, server_default=func.now()),
)

# One row for each attempt at a drop's quiz; a quiz whose questions were changed is another one (engine/gates/quiz.py).
quiz_attempts = Table(
    "quiz_attempts",
    metadata,
    Column("drop_id", Text, primary_key=True),
    Column("quiz", Text, primary_key=True),  # its version
    Column("subject", Text, primary_key=True),  # the person: all their accounts share the attempts
    Column("attempt", SmallInteger, primary_key=True),  # from 1
    Column("seed", LargeBinary, nullable=False),  # the questions follow from it
    Column("started_at", _Instant, nullable=False),
    Column("expires_at", _Instant, nullable=False),
    Column("answered_at", _Instant),
    Column("answers", JSONB),  # question → the number of the choice as it was shown; none where they came late
    Column("mark", SmallInteger),
    Column("passed", Boolean),
)

# What members are told: numbered in each inbox, so that nobody can name a message of somebody else (engine/notices/).
inboxes = Table(
    "inboxes",
    metadata,
    Column("member_id", Text, primary_key=True),
    Column("last", Integer, nullable=False),  # the highest number given; its lock puts those who tell in order
)
messages = Table(
    "messages",
    metadata,
    Column("member_id", Text, primary_key=True),
    Column("number", Integer, primary_key=True),
    Column("kind", Text, nullable=False),
    Column("texts", JSONB, nullable=False),  # language → text, as it was told
    Column("facts", JSONB, nullable=False),
    Column("once", Text, nullable=False),  # what is told once to a member has one key
    Column("created_at", _Instant, nullable=False, server_default=func.now()),
    Column("read_at", _Instant),
    UniqueConstraint("member_id", "once"),
)

# What happened, for those who tell it elsewhere: written by whoever did it, in the same transaction.
events = Table(
    "events",
    metadata,
    Column("id", BigInteger, Identity(always=True), primary_key=True),
    Column("place", BigInteger, unique=True),  # in the line that readers follow; given once it is committed
    Column("kind", Text, nullable=False),
    Column("object", Text, nullable=False),
    Column("payload", JSONB, nullable=False),
    Column("created_at", _Instant, nullable=False, server_default=func.now()),
    Index("events_without_place_idx", "id", postgresql_where=text("place is null")),
)

# What is to be done at a stated time (engine/schedule/).
schedule = Table(
    "schedule",
    metadata,
    Column("id", BigInteger, Identity(always=True), primary_key=True),
    Column("kind", Text, nullable=False),
    Column("object", Text, nullable=False),
    Column("name", Text, nullable=False),  # tells jobs of one kind on one object apart
    Column("due_at", _Instant, nullable=False),
    Column("next_at", _Instant, nullable=False),  # of the next attempt
    Column("payload", JSONB, nullable=False),
    Column("state", Text, nullable=False, server_default="waiting"),
    Column("attempts", Integer, nullable=False, server_default="0"),
    Column("done_at", _Instant),
    Column("error", Text),
    Column("created_at", _Instant, nullable=False, server_default=func.now()),
    UniqueConstraint("object", "kind", "name"),
    Index("schedule_waiting_idx", "next_at", "id", postgresql_where=text("state = 'waiting'")),
    Index("schedule_failed_idx", "id", postgresql_where=text("state = 'failed'")),
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

# One row for each draw that was committed (engine/draws/). `secret` is nobody's before the reveal: backups hold it.
draws = Table(
    "draws",
    metadata,
    Column("drop_id", Text, primary_key=True),
    Column("state", Text, nullable=False),  # committed, closed, revealed, void
    Column("secret", LargeBinary, nullable=False),
    Column("document", LargeBinary, nullable=False),  # what is published, as JSON, gzipped
    Column("commitment", Text, nullable=False),
    Column("root", Text),
    Column("entrants", Integer),  # how many
    Column("committed_at", _Instant, nullable=False),
    Column("closed_at", _Instant),
    Column("revealed_at", _Instant),
)

# A closed draw's entries in order, 1,024 a page: an inclusion proof is made from one of them and the roots of all.
draw_pages = Table(
    "draw_pages",
    metadata,
    Column("draw_id", Text, primary_key=True),
    Column("number", Integer, primary_key=True),
    Column("first", Text(collation="C"), nullable=False),  # the entrant that it begins with
    Column("root", LargeBinary, nullable=False),
    Column("entries", LargeBinary, nullable=False),  # JSON, compressed by zlib
)

# One row for each place of a revealed draw: the winners, then the waiting list.
awards = Table(
    "awards",
    metadata,
    Column("draw_id", Text, primary_key=True),
    Column("place", Integer, primary_key=True),  # in the order drawn, from 1
    Column("entrant", Text, nullable=False),  # the id of the claim that is the entry
    Column("member_id", Text, nullable=False),
    Column("subject", Text, nullable=False),
    Column("prize", Text),  # none for whoever waits
    Column("state", Text, nullable=False),  # waiting, offered, claimed, lapsed, declined
    Column("offered_at", _Instant),
    Column("confirm_by", _Instant),
    Column("ticket_until", _Instant),  # when the last ticket for it expires
    Column("changed_at", _Instant, nullable=False),
    UniqueConstraint("draw_id", "subject"),
    Index("awards_subject_idx", "subject"),
)

# What raises a person's weight in a draw, given before entries close.
draw_points = Table(
    "draw_points",
    metadata,
    Column("draw_id", Text, primary_key=True),
    Column("subject", Text, primary_key=True),
    Column("points", Integer, nullable=False),
)
