"""Tensors and tools: methods, conversion, evaluation. Knows no web, no queue, no SQL and nothing of jobs."""
