"""The HTTP API: routes, schemas, problems, event streams. Writes rows; never enqueues, never computes."""
