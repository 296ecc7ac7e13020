"""The routes, a file per feature."""
