"""Benchmarks: commands, not tests; they assert nothing about time."""
