"""Scenarios: one flow each, as people live it."""
