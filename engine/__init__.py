"""The domain and the Redis core: what a benefit is, who gets it, and how that is recorded.

Nothing in here knows of HTTP or of a terminal; `api/` and `cli/` call it, never the other way round.
"""
