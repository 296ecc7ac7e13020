"""Members: who they are to a drop, and whether a drop is for them."""
