"""Campaigns: what the public sees, over several drops with limits and a window in common."""
