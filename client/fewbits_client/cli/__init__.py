"""The `fewbits` command, a thin layer of words over the SDK."""

from fewbits_client.cli.program import main

__all__ = ["main"]
