"""Requests to one server, and the translation of what goes wrong into the SDK's errors.

Refuses to know: the API's paths and objects.
"""

import contextlib
import ipaddress
import json
import re
from collections.abc import Iterator, Mapping
from http import HTTPStatus
from pathlib import Path
from typing import Any

import httpx

from fewbits_client.errors import InvalidArgument, Problem, UnexpectedAnswer, Unreachable

# Statuses that a proxy or a starting server sends: the request was not refused, it was not heard.
_NOT_READY = frozenset({HTTPStatus.BAD_GATEWAY, HTTPStatus.SERVICE_UNAVAILABLE, HTTPStatus.GATEWAY_TIMEOUT})
_CONNECT_SECONDS = 10.0
_ID = re.compile(r"[A-Za-z0-9_-]+")


class Connection:
    """A pool of connections to one server, with its key.

    Args:
        url: where the server is, http:// or https://, with a path if it lives under one.
        api_key: the team's key.
        timeout_seconds: how long an answer may take.

    Raises:
        InvalidArgument: the URL or the key cannot be used.
    """

    def __init__(self, url: str, api_key: str, *, timeout_seconds: float) -> None:
        parsed = _web_address(url)
        if parsed is None:
            raise InvalidArgument(f"{url!r} is not the URL of a server: it must begin with http:// or https://")
        if not re.fullmatch(r"[!-~]+", api_key):
            raise InvalidArgument("the API key must be printable ASCII without spaces")
        self.url = url
        self._http = httpx.Client(
            base_url=parsed,
            headers={"Authorization": f"Bearer {api_key}"},
            timeout=httpx.Timeout(timeout_seconds, connect=min(timeout_seconds, _CONNECT_SECONDS)),
            # One stream a followed job, beside ordinary requests: the caller's number of jobs is the limit.
            limits=httpx.Limits(max_connections=None),
            # A proxy from the environment cannot reach this machine's own loopback address.
            trust_env=not _is_loopback(parsed.host),
        )

    def close(self) -> None:
        """Close every connection."""
        self._http.close()

    def call(
        self,
        method: str,
        path: str,
        *,
        body: Mapping[str, Any] | None = None,
        query: Mapping[str, Any] | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> dict[str, Any]:
        """Send one request and return the JSON object of its answer.

        Raises:
            Unreachable: no answer came, or the server is not ready.
            Problem: the server refused.
            UnexpectedAnswer: the answer is not a JSON object.
        """
        params = {name: value for name, value in (query or {}).items() if value is not None}
        with self.translated():
            response = self._http.request(method, path, json=body, params=params, headers=headers)
        self._check(response)
        return self._object(response)

    def text(self, path: str, *, media_type: str) -> str:
        """Send one GET for a text of this kind, and return it.

        Raises:
            Unreachable, Problem: as with `call`.
            UnexpectedAnswer: the answer is something else.
        """
        with self.translated():
            response = self._http.request("GET", path, headers={"Accept": media_type})
        self._check(response)
        if response.headers.get("content-type", "").partition(";")[0] != media_type:
            raise UnexpectedAnswer(f"{self.url} does not answer with {media_type}; is the URL right?")
        return response.text

    def send_file(
        self, path: str, file: Path, *, media_type: str, query: Mapping[str, Any] | None = None
    ) -> dict[str, Any]:
        """Send one POST whose body is a file, read as it is sent, and return the JSON object of its answer.

        Raises:
            OSError: the file cannot be read.
            Unreachable, Problem, UnexpectedAnswer: as with `call`.
        """
        headers = {"Content-Type": media_type}
        with file.open("rb") as content, self.translated():
            response = self._http.request("POST", path, content=content, params=query, headers=headers)
        self._check(response)
        return self._object(response)

    @contextlib.contextmanager
    def stream(self, path: str, *, headers: Mapping[str, str], timeout_seconds: float) -> Iterator[httpx.Response]:
        """Open one GET and give its answer unread; also errors while it is read are translated.

        Args:
            path: what to get.
            headers: further request headers.
            timeout_seconds: how long the answer may be silent.

        Yields:
            The answer, whose status is a success.

        Raises:
            Unreachable: no answer came, the server is not ready, or the connection broke.
            Problem: the server refused.
        """
        with self._opened(path, headers, timeout_seconds) as response:
            self._check_unread(response)
            yield response

    @contextlib.contextmanager
    def stream_file(self, path: str, *, headers: Mapping[str, str], timeout_seconds: float) -> Iterator[httpx.Response]:
        """Open one GET as `stream` does, of bytes that the server may have its store give.

        The store is another machine, which is not shown the key. It knows a file by another version than the server,
        so that a range is asked of it without a condition: what it gives under one address never changes.

        Yields:
            The answer, whose status is a success or 416.

        Raises:
            Unreachable: as with `stream`, or the store did not give the bytes.
            Problem: the server refused.
        """
        with self._opened(path, headers, timeout_seconds) as response:
            if response.status_code != HTTPStatus.TEMPORARY_REDIRECT:
                if response.status_code != HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE:
                    self._check_unread(response)
                yield response
                return
            location = response.headers.get("location", "")
        asked = {name: value for name, value in headers.items() if name != "If-Range"}
        with self._opened_elsewhere(location, asked, timeout_seconds) as response:
            yield response

    @contextlib.contextmanager
    def _opened(self, path: str, headers: Mapping[str, str], timeout_seconds: float) -> Iterator[httpx.Response]:
        timeout = httpx.Timeout(timeout_seconds, connect=_CONNECT_SECONDS)
        with self.translated(), self._http.stream("GET", path, headers=headers, timeout=timeout) as response:
            yield response

    @contextlib.contextmanager
    def _opened_elsewhere(
        self, location: str, headers: Mapping[str, str], timeout_seconds: float
    ) -> Iterator[httpx.Response]:
        place = _web_address(location)
        if place is None:
            raise UnexpectedAnswer(f"{self.url} points to a store that has no address")
        timeout = httpx.Timeout(timeout_seconds, connect=_CONNECT_SECONDS)
        with (
            self.translated(place.host),
            httpx.Client(timeout=timeout, trust_env=not _is_loopback(place.host)) as store,
            store.stream("GET", place, headers=headers) as response,
        ):
            if not response.is_success and response.status_code != HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE:
                raise Unreachable(f"the store at {place.host} answers with status {response.status_code}")
            yield response

    @contextlib.contextmanager
    def translated(self, place: str = "") -> Iterator[None]:
        """Turn httpx's errors into `Unreachable`, of the server unless another place is named."""
        place = place or self.url
        try:
            yield
        except httpx.TimeoutException as error:
            message = f"{place} does not answer in time; is the server overloaded or stopped?"
            raise Unreachable(message, may_be_heard=not isinstance(error, httpx.ConnectTimeout)) from None
        except httpx.HTTPError as error:
            message = f"cannot reach {place}: {str(error) or type(error).__name__}; is it running?"
            raise Unreachable(message, may_be_heard=not isinstance(error, httpx.ConnectError)) from None

    def _check_unread(self, response: httpx.Response) -> None:
        if not response.is_success:
            response.read()
        self._check(response)

    def _check(self, response: httpx.Response) -> None:
        """Raise unless the answer is a success."""
        if response.is_success:
            return
        status = response.status_code
        if status in _NOT_READY:
            raise Unreachable(f"{self.url} is not ready (status {status}); try again in a moment", may_be_heard=True)
        if not response.is_error:
            where = response.headers.get("location", "elsewhere")
            raise UnexpectedAnswer(f"{self.url} answers with status {status} and points to {where}; is the URL right?")
        document: Any = None
        with contextlib.suppress(ValueError):
            document = response.json()
        raise Problem(document if isinstance(document, dict) else {"title": response.reason_phrase}, status)

    def _object(self, response: httpx.Response) -> dict[str, Any]:
        try:
            value = response.json()
        except ValueError:
            value = None
        if not isinstance(value, dict):
            raise UnexpectedAnswer(f"{self.url} does not answer like a fewbits server; is the URL right?")
        return value


def identifier(value: str) -> str:
    """Return an object's id, known to be safe inside a path.

    Raises:
        InvalidArgument: it is not an id.
    """
    if not _ID.fullmatch(value):
        raise InvalidArgument(f"{value!r} is not an id; ids look like job_0123abcd")
    return value


def parse_object(text: str) -> dict[str, Any]:
    """Return the JSON object in `text`.

    Raises:
        UnexpectedAnswer: it holds no JSON object.
    """
    try:
        value = json.loads(text)
    except ValueError:
        value = None
    if not isinstance(value, dict):
        raise UnexpectedAnswer(f"the server sent {text[:80]!r} where a JSON object belongs")
    return value


def _web_address(text: str) -> httpx.URL | None:
    try:
        url = httpx.URL(text)
    except httpx.InvalidURL:
        return None
    return url if url.scheme in {"http", "https"} and url.host else None


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
