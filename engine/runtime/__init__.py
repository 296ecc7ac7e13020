"""What the engine stands on: settings, the two stores, and how to reach them."""
