"""Draws and instant wins that anybody can check: docs/draws.md."""
