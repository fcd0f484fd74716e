"""Alembic's revisions of the schema, each safe against the code that is still running."""
