"""Load on a running flashclaim: one seeded workload, driven by locust, by the demo and by tests."""
