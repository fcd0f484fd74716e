"""Requests that make something, sent until an answer comes, and making it once.

Each carries an idempotency key: whoever gets no answer cannot know what was done, and may only then ask again.
"""

import re
import uuid
from collections.abc import Mapping, Sequence
from typing import Any

from fewbits_client.backoff import Backoff
from fewbits_client.connection import Connection
from fewbits_client.errors import InvalidArgument, Problem, Unreachable
from fewbits_client.objects import SubmitOptions

_IN_FLIGHT = "request_in_flight"


def create(
    connection: Connection, path: str, *, body: Mapping[str, Any] | None, key: str | None, backoff: Backoff
) -> dict[str, Any]:
    """Send one POST, again where no answer came, and return the JSON object of its answer.

    Args:
        connection: the server.
        path: where to.
        body: what to send.
        key: the idempotency key; a fresh one where None.
        backoff: how to wait between tries, and for how long.

    Raises:
        InvalidArgument: the key cannot be sent.
        Problem: the server refused.
        Unreachable: the server was never there, or no answer came for the backoff's patience.
    """
    headers = {"Idempotency-Key": _quoted(str(uuid.uuid4()) if key is None else key)}
    heard = False
    while True:
        try:
            return connection.call("POST", path, body=body, headers=headers)
        except Unreachable as error:
            heard = heard or error.may_be_heard
            # A server that was never there is a wrong URL; one that was there is being restarted.
            if not heard:
                raise
            failure: Exception = Unreachable(f"what was asked for may have been done, but {error}")
        except Problem as error:
            if error.code != _IN_FLIGHT:
                raise
            heard, failure = True, error
        backoff.wait(failure)


def job_request(source: str, recipe: str | Mapping[str, Any], options: SubmitOptions) -> dict[str, Any]:
    """Return the body that asks for a job."""
    return _request({"source": source, "recipe": recipe}, options)


def sweep_request(
    source: str, recipes: Sequence[str | Mapping[str, Any]] | None, preset: str | None, options: SubmitOptions
) -> dict[str, Any]:
    """Return the body that asks for a sweep, with what was given of recipes and preset."""
    asked = {"recipes": None if recipes is None else list(recipes), "preset": preset}
    return _request({"source": source, **{name: value for name, value in asked.items() if value is not None}}, options)


def _request(what: Mapping[str, Any], options: SubmitOptions) -> dict[str, Any]:
    body: dict[str, Any] = {**what, **options}
    evaluation = {name: body.pop(name) for name in ("domains", "windows", "tasks", "task_items") if name in body}
    return {**body, "evaluation": evaluation} if evaluation else body


def _quoted(key: str) -> str:
    """Return a key as the header has it: a string of structured fields (RFC 9651)."""
    if not re.fullmatch(r"[ -~]{1,255}", key):
        raise InvalidArgument("an idempotency key is 1 to 255 printable ASCII characters")
    return '"' + re.sub(r'(["\\])', r"\\\1", key) + '"'
