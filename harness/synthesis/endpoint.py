"""A client of OpenAI-compatible endpoints, by plain HTTP: so many requests under way at a time, and patience with busy servers.

A request is sent again, with the same seed, while its server is busy or broken (408, 425, 429, 5xx, time-outs, broken connections): after
what Retry-After says, else after pauses that double. Other refusals (4xx) are of this request, and are its answer. What holds of all
requests (no connection at all, a wrong key, no such model or address, the first ones all refused) ends them, with one message.
"""

from __future__ import annotations

import email.utils
import http.client
import json
import os
import queue
import random
import threading
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

from harness.config.errors import InputError, wrong_value
from harness.synthesis.endpoint_messages import Answer, Failure, Request, UnreadableError, in_line

BUSY = frozenset({408, 425, 429})
OF_ALL = {
    401: "it does not take the key",
    402: "it wants to be paid",
    403: "it does not let this key in",
    404: "it knows no such address or model",
    405: "it answers no such requests",
}
"""Refusals that hold of all requests."""
FIRST_PAUSE_SECONDS, LONGEST_PAUSE_SECONDS = 1.0, 60.0
LONGEST_RETRY_AFTER_SECONDS = 900.0
FIRST_REFUSED = 8
"""Requests that are refused before any is answered: then something is wrong with all of them, and none is a row's own fault."""
FATE_SECONDS = 2.0
"""How long an end waits for what comes of the requests under way, to know whether they cost something."""
MOST_BYTES = 16_000_000
"""Of an answer."""
PART_BYTES = 65_536


class EndpointDownError(Exception):
    """A server that did not answer, however often it was asked. What has been answered stays; later it may go on."""


class _BusyError(Exception):
    """Worth another attempt."""

    def __init__(
        self, reason: str, *, after_seconds: float | None = None, is_unreachable: bool = False, may_have_cost: bool = False
    ) -> None:
        """after_seconds: as the server says; is_unreachable: whether another attempt helps only where there have been answers before;
        may_have_cost: whether the server may have written a text, and charged for it."""
        super().__init__(reason)
        self.after_seconds, self.is_unreachable, self.may_have_cost = after_seconds, is_unreachable, may_have_cost


class _NoRedirects(urllib.request.HTTPRedirectHandler):
    """The key goes nowhere else."""

    def redirect_request(self, *args: Any, **kwargs: Any) -> None:
        return None


@dataclass(frozen=True)
class Address:
    """Where a server is, and how it is asked."""

    url: str
    """http://HOST:PORT/v1/chat/completions."""
    key: str | None = field(repr=False)
    timeout_seconds: float
    """From the request to the end of its answer."""
    config_key: str
    """For messages: teachers.<name>."""

    def post(self, body: dict[str, Any]) -> bytes:
        """The content of a 200. Raises InputError for what holds of all requests, _RefusedError and _BusyError."""
        headers = {"Content-Type": "application/json", "Accept": "application/json", "User-Agent": "harness"}
        if self.key is not None:
            headers["Authorization"] = f"Bearer {self.key}"
        asked = urllib.request.Request(self.url, json.dumps(body).encode(), headers, method="POST")
        deadline = time.monotonic() + self.timeout_seconds
        try:
            with self._opener.open(asked, timeout=self.timeout_seconds) as response:
                return _content(response, deadline)
        except urllib.error.HTTPError as error:
            with error:
                raise self._refusal(error, deadline) from None
        except urllib.error.URLError as error:
            unreachable = isinstance(error.reason, ConnectionRefusedError) or not isinstance(error.reason, ConnectionError | TimeoutError)
            raise _BusyError(self.without_key(str(error.reason)), is_unreachable=unreachable) from None
        except (TimeoutError, http.client.HTTPException, ConnectionError) as error:
            raise _BusyError(f"{type(error).__name__}: {self.without_key(str(error))}", may_have_cost=True) from None

    @cached_property
    def _opener(self) -> urllib.request.OpenerDirector:
        """Through the proxies of the environment, but to this machine itself."""
        is_here = urllib.parse.urlsplit(self.url).hostname in ("localhost", "127.0.0.1", "::1")
        return urllib.request.build_opener(_NoRedirects, *([urllib.request.ProxyHandler({})] if is_here else []))

    def _refusal(self, error: urllib.error.HTTPError, deadline: float) -> Exception:
        try:
            content = _content(error, deadline)
        except (OSError, http.client.HTTPException, _BusyError):
            content = b""
        said = f"HTTP {error.code}: {self.without_key(_said(content) or str(error.reason))}"
        if error.code in BUSY or error.code >= 500:
            return _BusyError(said, after_seconds=_retry_after(error.headers.get("Retry-After")))
        if error.code in OF_ALL:
            return InputError(f"{self.config_key}.endpoint={self.url}: {OF_ALL[error.code]} ({said}); valid: {self._valid(error.code)}")
        if error.code < 400:
            place = self.without_key(str(error.headers.get("Location")))
            return InputError(f"{self.config_key}.endpoint={self.url}: it is at {place[:200]} now ({said}); valid: that address")
        return _RefusedError(said)

    def _valid(self, code: int) -> str:
        if code in (404, 405):
            return f"http://HOST:PORT/v1, as {self.config_key}.endpoint, and a model that is served there, as {self.config_key}.model"
        return f"as {self.config_key}.key_env, the environment variable that holds a key for it"

    def refuses_all(self, failure: Failure) -> InputError:
        return InputError(
            f"{self.config_key}.endpoint={self.url}: it refuses all of the first {FIRST_REFUSED} requests, the last with {failure.reason}; "
            f"valid: what it serves, see {self.config_key}.engine, .extra_body and the steps' sampling"
        )

    def without_key(self, text: str) -> str:
        """The text in one line, without the key: a server may say it back."""
        return in_line(text.replace(self.key, "REMOVED") if self.key else text)


class _RefusedError(Exception):
    """A refusal of this request alone."""


def address_of(endpoint: str, *, chat: bool, key_env: str | None, timeout_seconds: float, config_key: str) -> Address:
    """Raises InputError for an address that is none, and for a key that is not in the environment."""
    if "@" in endpoint:
        raise InputError(f"{config_key}.endpoint: holds a user or a password; valid: the address alone, the key by {config_key}.key_env")
    try:
        parts = urllib.parse.urlsplit(endpoint)
        is_address = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0 and not (parts.query or parts.fragment)
    except ValueError:  # of a port, or of brackets
        is_address = False
    if not is_address:
        raise wrong_value(f"{config_key}.endpoint", endpoint, "no address; valid: http://HOST:PORT/v1 or https://HOST/v1")
    key = None
    if key_env is not None:
        key = os.environ.get(key_env, "").strip()
        if not key:
            raise wrong_value(f"{config_key}.key_env", key_env, "the environment has no such variable; valid: one that holds the key")
        if not (key.isascii() and key.isprintable()):
            raise wrong_value(f"{config_key}.key_env", key_env, "what it holds is no key: it has characters that no HTTP header can have")
    path = "chat/completions" if chat else "completions"
    return Address(f"{endpoint.rstrip('/')}/{path}", key, timeout_seconds, config_key)


class Endpoint:
    """Asks one server. Nothing is kept here."""

    def __init__(self, address: Address, *, requests: int, attempts: int) -> None:
        """requests: that are under way at most; attempts: how often one is sent."""
        self._address, self._requests, self._attempts = address, requests, attempts
        self._state = threading.Condition()
        self._quiet_until = 0.0
        """Nothing is sent before: a server that is busy for one request is so for all."""
        self._is_there = False
        """Whether it has said anything."""
        self._has_answered = False
        self._under_way = 0
        """Requests of which it is not known whether the server writes something."""
        self._may_have_written = False
        self.wrote_nothing = False
        """Whether it ended, and is known to have written nothing: it was never reached, or refused all that was sent."""

    def complete(
        self,
        requests: Iterable[Request],
        body_of: Callable[[Request], dict[str, Any]],
        read: Callable[[Request, bytes], Answer | Failure],
    ) -> Iterator[Answer | Failure]:
        """What the server makes of each request, as it comes. Raises InputError for what holds of all requests, and EndpointDownError.

        Requests are taken when there is room for them. An iterator that is closed sends nothing more; answers under way are lost.
        """
        waiting, found = iter(requests), queue.SimpleQueue[Answer | Failure | BaseException | None]()
        closing, taking = threading.Event(), threading.Lock()

        def take() -> Request | None:
            with taking:
                return None if closing.is_set() else next(waiting, None)

        def send_all() -> None:
            try:
                while (request := take()) is not None:
                    found.put(self._answer(request, body_of, read, closing))
                found.put(None)
            except BaseException as error:  # noqa: BLE001 - it is raised where the answers are asked for
                found.put(error)

        threads = [threading.Thread(target=send_all, daemon=True) for _ in range(self._requests)]
        for thread in threads:
            thread.start()
        try:
            running, refused = len(threads), list[Failure]()
            while running:
                match found.get():
                    case None:
                        running -= 1
                    case BaseException() as error:
                        raise error
                    case Failure() as failure if not self._has_answered:
                        refused.append(failure)
                        if len(refused) == FIRST_REFUSED:
                            raise self._address.refuses_all(failure)
                    case answer:
                        yield from refused
                        refused.clear()
                        yield answer
            yield from refused
        except (InputError, EndpointDownError) as error:
            closing.set()
            self.wrote_nothing = self._all_refused() and (isinstance(error, InputError) or not self._is_there)
            raise
        finally:
            closing.set()

    def _all_refused(self) -> bool:
        """Whether nothing that was sent can have been written. Nothing more is sent by now."""
        with self._state:
            self._state.wait_for(lambda: self._may_have_written or not self._under_way, FATE_SECONDS)
            return not (self._may_have_written or self._under_way)

    def _answer(
        self,
        request: Request,
        body_of: Callable[[Request], dict[str, Any]],
        read: Callable[[Request, bytes], Answer | Failure],
        closing: threading.Event,
    ) -> Answer | Failure:
        body, lost = body_of(request), 0
        for attempt in range(1, self._attempts + 1):
            closing.wait(max(0.0, self._quiet_until - time.monotonic()))
            with self._state:
                if closing.is_set():
                    break
                self._under_way += 1
            answer: Answer | Failure | _BusyError
            may_have_written = True
            try:
                answer = read(request, self._address.post(body))
                self._has_answered = True
            except InputError:
                may_have_written = False
                raise
            except _RefusedError as refusal:
                answer, may_have_written = Failure(request.id, str(refusal)), False
            except UnreadableError as error:
                answer = _BusyError(self._address.without_key(str(error)), is_unreachable=True, may_have_cost=True)
            except _BusyError as error:
                answer, may_have_written = error, error.may_have_cost
            finally:
                with self._state:
                    self._under_way -= 1
                    self._may_have_written |= may_have_written
                    self._state.notify_all()
            self._is_there |= not (isinstance(answer, _BusyError) and answer.is_unreachable)
            if not isinstance(answer, _BusyError):
                return replace(answer, lost_attempts=lost)
            busy = answer
            lost += busy.may_have_cost
            if attempt == self._attempts or not self._is_there:
                raise EndpointDownError(
                    f"{self._address.config_key}.endpoint={self._address.url}: no answer ({busy}; {attempt} of {self._attempts} attempts)"
                )
            self._pause(busy.after_seconds, attempt, closing)
        raise EndpointDownError(f"{self._address.config_key}: closed")

    def _pause(self, after_seconds: float | None, attempt: int, closing: threading.Event) -> None:
        if after_seconds is not None:
            with self._state:
                self._quiet_until = max(self._quiet_until, time.monotonic() + min(after_seconds, LONGEST_RETRY_AFTER_SECONDS))
            return
        # Up to half of it by chance, so that requests that failed together do not come back together.
        pause = min(FIRST_PAUSE_SECONDS * 2 ** (attempt - 1), LONGEST_PAUSE_SECONDS)
        closing.wait(pause * random.uniform(0.5, 1.0))


def _content(response: Any, deadline: float) -> bytes:
    """All of an answer. Raises _BusyError for one that does not end in time, or in MOST_BYTES."""
    content = bytearray()
    while part := response.read1(PART_BYTES):
        content += part
        if time.monotonic() > deadline:
            raise _BusyError("an answer that does not end in time", may_have_cost=True)
        if len(content) > MOST_BYTES:
            raise _BusyError(f"an answer of more than {MOST_BYTES:,} bytes", may_have_cost=True)
    if (length := response.headers.get("Content-Length")) is not None and length.isdecimal() and len(content) < int(length):
        raise _BusyError("an answer that is cut", may_have_cost=True)
    return bytes(content)


def _said(content: bytes) -> str:
    """What a refusal says: its error.message, where it has one."""
    try:
        error = json.loads(content)
    except (ValueError, RecursionError):
        return in_line(content) if content else ""
    for name in ("error", "message"):
        if isinstance(error, dict) and error.get(name):
            error = error[name]
    return in_line(error if isinstance(error, str) else json.dumps(error))


def _retry_after(value: str | None) -> float | None:
    """Seconds, of a Retry-After in seconds or as a date; None where there is none that can be read."""
    if value is None:
        return None
    if value.strip().replace(".", "", 1).isdecimal():
        return float(value)
    try:
        date = email.utils.parsedate_to_datetime(value)
    except ValueError:
        return None
    return max(0.0, date.timestamp() - time.time())
