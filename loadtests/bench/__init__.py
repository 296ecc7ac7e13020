"""Benchmarks: a file for each thing measured."""
