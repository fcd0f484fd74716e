"""What a server tells that is no team's work: what a model is, which methods there are, what quotas leave."""

from typing import cast

from fewbits_client.calls import Calls, items_of
from fewbits_client.objects import Method, Model, Quota


class ServerCalls(Calls):
    """The calls about models, methods and quotas."""

    def inspect(self, source: str) -> Model:
        """Return what a model is, and which recipes go with it, by its headers and small files alone.

        Args:
            source: as in `submit`.

        Raises:
            Problem: with status 422, where the server cannot see it, or it is no model that can be worked on.
        """
        return cast("Model", self._connection.call("POST", "/v1/models/inspect", body={"source": source}))

    def methods(self) -> list[Method]:
        """Return the ways to quantize that this server knows."""
        return items_of(self._connection.call("GET", "/v1/methods"))

    def quotas(self) -> list[Quota]:
        """Return what the team may have at once, and how much of it is used."""
        return items_of(self._connection.call("GET", "/v1/quotas"))
