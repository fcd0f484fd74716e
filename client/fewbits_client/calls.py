"""What every call of the client rests on: a connection, its patience, and lists that come page by page.

It knows where a job and a sweep are found, and nothing of what can be asked there: that stands in the modules
beside it, each by what it is about.
"""

from collections.abc import Iterator, Mapping
from typing import Any

from fewbits_client.backoff import Backoff
from fewbits_client.connection import Connection, identifier
from fewbits_client.creating import create
from fewbits_client.errors import UnexpectedAnswer

PAGE_LIMIT = 100


class Calls:
    """One connection to a server, and how long to bear with it; see `Client` for the arguments."""

    def __init__(  # noqa: PLR0913  # all but two have defaults and are given by name
        self,
        url: str,
        api_key: str,
        *,
        timeout_seconds: float = 60.0,
        retry_seconds: float = 0.5,
        patience_seconds: float = 120.0,
        poll_seconds: float = 1.0,
    ) -> None:
        self._connection = Connection(url, api_key, timeout_seconds=timeout_seconds)
        self._retry_seconds = retry_seconds
        self._patience_seconds = patience_seconds
        self._poll_seconds = poll_seconds

    def _pages(self, path: str, after: str | int | None, query: Mapping[str, str | int | None]) -> Iterator[Any]:
        """Yield the items of a list, each page asked for when the one before is used up."""
        while True:
            page = self._connection.call("GET", path, query={**query, "after": after, "limit": PAGE_LIMIT})
            items = items_of(page)
            yield from items
            if not page.get("has_more") or not items:
                return
            after = items[-1]["id"]

    def _create(self, path: str, body: Mapping[str, Any] | None, key: str | None) -> dict[str, Any]:
        return create(self._connection, path, body=body, key=key, backoff=self._backoff())

    def _backoff(self) -> Backoff:
        return Backoff(self._retry_seconds, self._patience_seconds)


def items_of(page: Mapping[str, Any]) -> list[Any]:
    """Return the items of a page."""
    items = page.get("data")
    if not isinstance(items, list):
        raise UnexpectedAnswer("the server sent something else where a list belongs; is the URL right?")
    return items


def job_path(job_id: str) -> str:
    """Return where a job is."""
    return f"/v1/jobs/{identifier(job_id)}"


def sweep_path(sweep_id: str) -> str:
    """Return where a sweep is."""
    return f"/v1/sweeps/{identifier(sweep_id)}"
