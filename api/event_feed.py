"""One connection that listens to Postgres for all the event streams of a process.

A notification only says "look": streams read what happened from the tables and look every few seconds anyway, so a
lost notification or a lost connection delays them and loses nothing. Works with threads and, once gevent has patched
the standard library, with greenlets. Refuses to know: what a job is.
"""

import contextlib
import threading
from collections import defaultdict
from collections.abc import Callable, Iterator

from db.listen import Listener

END_CHECK_SECONDS = 0.5


class EventFeed:
    """The process's subscription to one channel. Listening begins with the first subscriber.

    Args:
        url: ``postgresql://user:password@host:port/name``.
        channel: what to listen to; the payload names the subject.
    """

    def __init__(self, url: str, channel: str) -> None:
        self._url = url
        self._channel = channel
        self._lock = threading.Lock()
        self._subscribers: defaultdict[str, set[threading.Event]] = defaultdict(set)
        self._thread: threading.Thread | None = None
        self._closed = threading.Event()
        self._ended: Callable[[], bool] = self._closed.is_set

    @property
    def closed(self) -> bool:
        """Whether the process is stopping: every stream should end."""
        return self._closed.is_set()

    def end_when(self, ended: Callable[[], bool]) -> None:
        """Close by itself, within half a second, once ``ended()`` is true."""
        self._ended = ended

    @contextlib.contextmanager
    def subscribe(self, subject: str) -> Iterator[threading.Event]:
        """Subscribe for the length of a block to one subject.

        Yields:
            an event that is set at each notification; the subscriber clears it before it looks.
        """
        news = threading.Event()
        with self._lock:
            self._subscribers[subject].add(news)
            self._start()
        try:
            yield news
        finally:
            with self._lock:
                self._subscribers[subject].discard(news)
                if not self._subscribers[subject]:
                    del self._subscribers[subject]

    def subscriber_count(self) -> int:
        """Return how many subscriptions there are."""
        with self._lock:
            return sum(len(events) for events in self._subscribers.values())

    def close(self) -> None:
        """Wake every subscriber for the last time, and stop listening."""
        self._closed.set()
        self._wake_all()
        if self._thread is not None:
            self._thread.join()

    def _start(self) -> None:
        if self._thread is None and not self.closed:
            self._thread = threading.Thread(target=self._listen, name="event-feed", daemon=True)
            self._thread.start()

    def _listen(self) -> None:
        listener = Listener(self._url, self._channel, on_connect=self._wake_all)
        try:
            while not self._is_over():
                for subject in listener.wait(END_CHECK_SECONDS):
                    self._wake(subject)
        finally:
            listener.close()
            self._wake_all()

    def _is_over(self) -> bool:
        if not self.closed and self._ended():
            self._closed.set()
        return self.closed

    def _wake(self, subject: str) -> None:
        with self._lock:
            subscribers = list(self._subscribers.get(subject, ()))
        for news in subscribers:
            news.set()

    def _wake_all(self) -> None:
        with self._lock:
            subscribers = [news for events in self._subscribers.values() for news in events]
        for news in subscribers:
            news.set()
