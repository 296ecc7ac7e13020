"""Every bound of the engine, with its unit last in the name and the sum that gives it.

A bound is here and nowhere else, but for those of draws: `engine/draws/verify.py` imports nothing of the engine.
Relations between bounds are asserted at import.
"""

# Identifiers: they are parts of Redis keys, tickets and receipts, so they stay short.
DROP_ID_CHARS_MAX = 64
ITEM_ID_CHARS_MAX = 64
MEMBER_ID_BYTES_MAX = 64  # also the length of a subject
PARTITIONS_MAX = 1024  # two digits in most keys; a multiple of a large Cluster's primaries

# A drop. An item's index is one byte in tickets, scripts and receipts.
ITEMS_MAX = 64
FAULTS_TOLD_MAX = 100  # of one definition: each costs a search for the nearest name, and nobody reads more
WAVES_MAX = 256  # parsed once per batch: 256 numbers take about 30 µs
ALLOTMENTS_MAX = 256  # parsed once per batch, as waves are
LONG_TEXT_CHARS_MAX = 4_000  # of a campaign's text, in each language: two screens of a phone
CAMPAIGN_DAYS_MAX = 1_100  # three years; limits a day are worked out day by day, in 5 ms
FAMILY_DROPS_MAX = 16  # of a campaign's drops that count together: each costs a batch a look at its claims
PRIZES_MAX = 50_000  # of an instant drop: seven bytes each in the store
CURVE_POINTS_MAX = 1_000  # of an instant drop; the verifier takes no more
RULES_CHARS_MAX = 4_000  # of a language: two pages
BEACON_AGAIN_S = 5.0  # between two questions for a beacon's value, or two looks whether a draw can go on
EARLIER_DRAWS_MAX = 16  # whose misses count in a draw: each is a pass over its entries
STOCK_MAX = 10_000_000  # per item; ten times the members of the largest city union
LIMIT_PER_MEMBER_MAX = 1_000
QUANTITY_MAX = LIMIT_PER_MEMBER_MAX  # two bytes in tickets, scripts and receipts
SERIAL_MAX = 2_147_483_647  # of claims in one drop and partition: the ledger keeps it in four bytes with a sign

# The tree of organisations: a city, its towns, groups of enterprises, enterprises.
ORGANISATION_DEPTH_MAX = 8
ORGANISATIONS_FILE_BYTES_MAX = 32_000_000  # a hundred thousand enterprises are about 10 MB

# A member's attributes, and the conditions on them: judged at each ticket, in about a µs a condition.
TEXT_CHARS_MAX = 200  # of an attribute, or of one text of a list
TAGS_MAX = 50
CONDITIONS_MAX = 200  # of one predicate
CONDITION_VALUES_MAX = 10_000  # of one condition: more is a list of members
PREDICATE_DEPTH_MAX = 8
KNOWN_S = 1.0  # that a process takes what the ledger said of a member's lists and organisation
KNOWN_MEMBERS_MAX = 10_000
KNOWN_AT_ONCE_MAX = 512  # members in one question
INTAKE_COPY_ROWS = 10_000  # of a CSV, in memory at once: 5 MB
INTAKE_CHUNK_ROWS = 50_000  # written in one transaction: about a second

# A batch: claims in one script call. 512 claims take Valkey about 1.5 ms.
BATCH_CLAIMS_MAX = 512
BATCHES_IN_FLIGHT_MAX = 2  # of one drop and partition
BATCHES_AT_ONCE_MAX = 16  # of one process, over all drops: at the store they follow each other anyway
# Waiting claims of one drop and partition in one process: at a pessimistic 10,000 claims/s this is a wait of 1.6 s.
QUEUE_CLAIMS_MAX = 16_384
QUEUE_WAIT_S_MAX = 2.0
STORE_TIMEOUT_S = 5.0  # past it the outcome of a batch is unknown
REPLICA_WAIT_MS = 1_000  # at the level `replica`: past it the outcome of a batch is unknown

# Rates. A bucket takes about 200 bytes: both generations of a rate are at most 26 MB. A process takes 40,000 claims/s,
# and with the default rate a bucket is full again after a second, so that none is forgotten early.
BUCKETS_MAX = 65_536
RATE_MAX = 1_000_000  # a second, and at once: an interval is a whole number of µs
ADDRESS_CHARS_MAX = 64  # the longest IPv6 address has 45
ADDRESSES_KNOWN_MAX = 16_384  # parsed once; 6 MB
HELD_S = (
    1.0  # that a refusal for a rate is kept back: a bot that waits for its answers sends one a second and connection
)
HELD_MAX = 16_384  # of a process at once, so that answering them takes it half its time; each is a connection
RATES_WAIT_S_MAX = 0.25  # for the rates' store; past it the process counts alone
RATES_AWAY_S = 5.0  # until it is asked again: meanwhile no claim waits for it
DENY_ENTRIES_MAX = 200_000  # lines; read in half a second, 30 MB
DENY_LOOK_S = 0.4  # between two looks at the deny file, so that a change is there within a second

# The map. A map of 33 towns with five slogans each is about 8 kB; it is made once for all who watch.
MAP_EVERY_S = 1.0  # between two looks of a process at a drop's tallies, while somebody watches
MAP_WATCHERS_MAX = 2_000  # of a process, over all drops: where all change at once, 16 MB are sent in a second

# Tickets and receipts: the longest is two 64-byte names, a drop id and the fixed part, in base64.
TICKET_BYTES_MAX = 1 + 1 + 1 + DROP_ID_CHARS_MAX + 6 + 6 + 8 + 1 + 2 + 2 + 2 * (1 + MEMBER_ID_BYTES_MAX) + 16
TICKET_CHARS_MAX = -(-TICKET_BYTES_MAX * 4 // 3)
CLAIM_BODY_BYTES_MAX = 1_024
CHALLENGE_S = 120  # how long a challenge is good: 18 bits take a slow phone's browser some seconds
PROOF_BITS_MAX = 24  # 16 million hashes on average: a minute of such a phone
# Gates. A quiz of 500 questions with four choices is about 300 kB of its drop's definition.
QUIZ_BANK_MAX = 500
QUIZ_QUESTIONS_MAX = 50
QUIZ_CHOICES_MAX = 10
QUIZ_ATTEMPTS_MAX = 100
QUIZ_S_MAX = 86_400
SLOGANS_MAX = 64  # a slogan's number is one byte in a ticket
PASS_S = 600  # how long a gate's pass is good: a ticket is taken with it at once, and another is free
# From the centre of a town to its farthest corner: nearer than this lies 99.8% of Dongguan's area (decision 14).
TOWN_CENTRE_KM_MAX = 12.0
OUTLINES_BYTES_MAX = 10_000_000
OUTLINE_POINTS_MAX = 10_000  # of one town: looked at one by one, in a millisecond
HEAD_BYTES_MAX = 65_536  # of a request that comes in pieces: eight session tokens of the longest kind
REQUEST_S_MAX = 10.0  # for the head of any request, and for the whole of a claim
# A phone that waits for the opening keeps its connection; longer than a proxy keeps its own (60 s), for a connection
# that both ends use and close at the same moment is a request without an answer.
KEEP_ALIVE_S = 75
BACKLOG = 65_535  # connections that wait to be taken in; the kernel's net.core.somaxconn cuts it
PAGE_ROWS_MAX = 500  # of a list: 500 drops of ten items are about 500 kB
REQUEST_BODY_BYTES_MAX = 1_048_576  # a drop of 64 items and 256 waves is about 60 kB

# The outbox: past its bound the front takes no claims until the ledger has caught up. At 40,000 claims/s of 60 bytes
# the default is six minutes without a ledger.
OUTBOX_BYTES_MAX = 1_000_000_000
OUTBOX_LOOK_S = 0.5  # between two looks; meanwhile 20,000 claims or 1.2 MB may come
OUTBOX_RELIEF = 0.9  # of the bound: a full outbox is full until it is below this, for its size is an estimate
OUTBOX_SAMPLES = 10  # nodes that the store weighs to tell a stream's size: 10 take it a few µs

LEDGER_STATEMENT_S_MAX = 60.0  # for a worker's read, a rebuild, an audit
LEDGER_ANSWER_S_MAX = 10.0  # where a person waits for the API; the report over a million claims takes half a second
LEDGER_LOCK_TIMEOUT = "10s"  # for what an operator's act, a worker or a migration holds; then it is tried again

# The persistence worker: one read is one transaction.
INGEST_ENTRIES_MAX = 64  # × 512 claims an entry = at most 32,768 rows, about 10 MB and half a second
TAKE_OVER_IDLE_MS = 15_000

# A store that was restarted or replaced: all who were told something by the one before ask again within this time.
HOMECOMING_GRACE_S = 1.0
LEDGER_FIRST_WORD_S = 1.0  # that a process waits, before it takes requests, to hear which store decides
REMIND_S = 0.25  # between two looks of a process whether the store is a new one, to which it says what it was told

# The reconciler: a round looks at every open drop; a million claims are compared one by one in four minutes.
RECONCILE_S = 0.5
REBUILD_AGAIN_S = 30.0  # a rebuild that nobody asked for, and that was refused, is tried again after it
RECOUNT_S = 3_600.0  # after it all rows of a drop are summed anew: half a second for a million
RECONCILE_ROWS = 2_000  # in a round: 5 ms of each store

ERASE_LOOK_S = 30.0  # between two looks whether an erasure that waits can be done

# The vigil: the promises are called on a part of the history; a million claims take twenty minutes.
VIGIL_S = 5.0
VIGIL_ROWS = 4_000  # 50 ms of a worker
VIGIL_ACTIONS = 500  # 15 ms of it

# A draw. Up to so many entries it is worked out in a thread of the process, more in a process of their own.
DRAW_ENTRIES_HERE_MAX = 10_000  # 0.1 s
DRAW_PAGE_ENTRIES = 1_024  # of which a proof is made: a power of two, so that a page is a whole branch of the tree
DRAW_DRAIN_S_MAX = 60.0  # for the outbox to get into the ledger before entries are read, or an award lapses
BEACON_BYTES_MAX = 65_536  # of an answer: a round of drand has 400
BEACON_TIMEOUT_S = 10.0

# A rebuild: a million claims are made in half a minute.
REBUILD_CHUNK_SUBJECTS = 1_000  # written in one command: 30 kB, half a millisecond of the store
REBUILD_DRAIN_S_MAX = 120.0  # for the outbox to get into the ledger: a gigabyte of it at 150,000 claims/s

# Messages to members: of 600 bytes, 5 kB at the most; 200 of them are 120 kB a member, 1 MB at the most. The oldest go.
MESSAGES_KEPT_MAX = 200  # of one member
MESSAGE_CHARS_MAX = 500  # of one text
MESSAGE_FACTS_BYTES_MAX = 2_000
MESSAGES_TOLD_MAX = 100_000  # in one statement: all winners of a large draw: 60 MB, some seconds
EVENTS_PLACED_MAX = 10_000  # by one reader at once: half a second
EVENTS_READ_MAX = 1_000

# Live messages. A stream takes 75 kB of a process and a connection; past its life a client asks again by itself.
STREAMS_MAX = 2_000  # of one process: 150 MB
STREAMS_PER_MEMBER_MAX = 6  # as many as a browser opens to one host
STREAM_QUEUE_MAX = 32  # messages read for a stream and not sent yet
STREAM_S_MAX = 900.0  # a session is looked at anew after it
STREAM_ROUND_S = 0.2  # between two looks, however much is told meanwhile
STREAM_POLL_S = 2.0  # between two looks where nobody said that something was told
STREAMS_ASKED_MAX = 200  # in one query: 6,400 rows at the most
UNREAD_S_MAX = 30.0  # that a client may take nothing of what waits for it

# The schedule. A job holds a connection to the ledger, and may use a second one for what it does by a service.
JOBS_AT_ONCE = 4  # of one worker
SCHEDULE_LOOK_S = 0.5  # between two looks for what was planned meanwhile
JOB_S_MAX = 300.0  # a draw from a million entries takes one minute; past it the job is taken up by somebody else
JOB_ATTEMPTS_MAX = 12  # by the pauses below a quarter of an hour
JOB_PAUSE_S_MAX = 300.0
JOBS_PLANNED_MAX = 1_000  # of one object by one act: 256 waves, an opening, a close, and a draw's steps

assert BATCH_CLAIMS_MAX * BATCHES_IN_FLIGHT_MAX <= QUEUE_CLAIMS_MAX
assert 2 * REMIND_S < HOMECOMING_GRACE_S
assert ITEMS_MAX < 256
assert SLOGANS_MAX < 256
assert QUANTITY_MAX < 65_536
assert DRAW_PAGE_ENTRIES.bit_count() == 1
assert MEMBER_ID_BYTES_MAX < 256
assert TICKET_CHARS_MAX < 512
assert RATES_WAIT_S_MAX < RATES_AWAY_S < STORE_TIMEOUT_S * 2
assert STREAM_QUEUE_MAX <= MESSAGES_KEPT_MAX
assert STREAM_ROUND_S < STREAM_POLL_S < STREAM_S_MAX
assert WAVES_MAX + 2 <= JOBS_PLANNED_MAX
assert JOB_PAUSE_S_MAX < 2.0**JOB_ATTEMPTS_MAX
