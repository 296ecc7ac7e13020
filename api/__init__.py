"""The HTTP side: parse, one service call, shape the answer. What is decided is decided in `engine/`."""
