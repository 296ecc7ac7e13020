"""Drops: one pool of stock, given out by one rule."""
