"""Benchmarks, with their last results in results/."""
