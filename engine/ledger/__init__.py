"""The ledger: PostgreSQL, the durable record of what happened and what is owed."""
