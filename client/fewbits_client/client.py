"""The client: one method for each thing that the API can do, each beside what it is about."""

from types import TracebackType
from typing import Self

from fewbits_client.dataset_calls import DatasetCalls
from fewbits_client.result_calls import ResultCalls
from fewbits_client.server_calls import ServerCalls
from fewbits_client.sweep_calls import SweepCalls


class Client(SweepCalls, ResultCalls, DatasetCalls, ServerCalls):
    """A team's access to one fewbits server. Use it as a context manager, or call `close`.

    Args:
        url: where the server is, as ``make up`` prints it.
        api_key: the team's key.
        timeout_seconds: how long the answer to an ordinary request may take.
        retry_seconds: the longest first wait before what was broken off is tried again: a stream, a download, a
            request that makes a job.
        patience_seconds: how long such a thing may fail before it is given up.
        poll_seconds: how often followed logs are looked at.

    Raises:
        InvalidArgument: the URL or the key cannot be used.
    """

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close every connection."""
        self._connection.close()
