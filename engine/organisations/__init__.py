"""Organisations: the tree of union bodies: the city, its towns, and enterprises under them."""
