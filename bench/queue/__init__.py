"""The queue, measured beside what people would use instead. Run it with ``python -m bench.queue``."""
