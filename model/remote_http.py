"""The connection to a remote model server: one request, one connection, events as they come.

The only module that connects to another machine, and only when `remote.py` was given an address by
the user's own settings. The standard library is enough: a thread reads, so that the engine's
thread can look at its cancel token and close the connection while nothing arrives. Redirects are
not followed: text goes to the configured address or nowhere. What a server says in an error is
logged at DEBUG alone, since servers like to quote the prompt.
"""

from __future__ import annotations

import json
import logging
import queue
import socket
import ssl
import threading
from dataclasses import dataclass, field
from http.client import HTTPConnection, HTTPException, HTTPResponse, HTTPSConnection
from typing import Any
from urllib.parse import urlsplit

from qcoder.model.errors import RemoteError

logger = logging.getLogger(__name__)

CONNECT_TIMEOUT_S = 5.0
MAX_LINE_BYTES = 1 << 20
MAX_JSON_BYTES = 4 << 20
LOCAL_HOSTS = frozenset({"localhost", "127.0.0.1", "::1"})
FAILURES = (OSError, HTTPException, ValueError, AttributeError)
"""What http.client raises when a peer fails, or when the socket is shut by another thread."""

REFUSALS = {
    400: "refused the request; check remote.kind, remote.fim_format and model.max_context",
    401: "wants another key; check the variable that remote.api_key_env names",
    403: "forbids this key; check the variable that remote.api_key_env names",
    404: "knows no such address or model; check remote.url, remote.model and remote.kind",
    413: "finds the prompt too long; lower model.max_context",
    422: "refused the request; check remote.kind and remote.model",
    429: "is over its limit of requests; try again later",
}
"""What a status means for whoever wrote the settings."""


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Where requests go. `path` begins with a slash and ends without; the key is never shown."""

    host: str
    port: int | None
    path: str
    secure: bool
    key: str = field(default="", repr=False)
    timeout_s: float = 30.0

    @staticmethod
    def parse(
        url: str, key: str = "", timeout_s: float = 30.0, allow_http: bool = False
    ) -> Endpoint:
        """The endpoint of a base address like `https://host/v1`; raises `RemoteError`."""
        try:
            parts = urlsplit(url)
            host, port = parts.hostname or "", parts.port
        except ValueError as error:
            raise RemoteError(
                f"remote.url is no address ({error}); write https://host/v1"
            ) from None
        if parts.scheme not in ("http", "https") or not host or not url.isascii():
            raise RemoteError("remote.url must be like https://host/v1 or http://localhost:8000/v1")
        if parts.username or parts.password or parts.query or parts.fragment:
            raise RemoteError(
                "remote.url may have no user, password, query or fragment; a key goes into the "
                "variable that remote.api_key_env names"
            )
        if parts.scheme == "http" and host not in LOCAL_HOSTS and not allow_http:
            raise RemoteError(
                f"remote.url: plain http to {host} would send your code and key unencrypted; use "
                "https, or set remote.allow_http if the network is your own"
            )
        if not (key.isascii() and (key.isprintable() and " " not in key)):
            raise RemoteError("the key has blanks or characters that no header may have")
        path = parts.path.rstrip("/") or "/v1"
        return Endpoint(host, port, path, parts.scheme == "https", key, timeout_s)

    @property
    def name(self) -> str:
        """The address for messages."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        port = f":{self.port}" if self.port else ""
        return f"{'https' if self.secure else 'http'}://{host}{port}{self.path}"

    def headers(self) -> dict[str, str]:
        """What every request carries."""
        common = {"Content-Type": "application/json", "Connection": "close", "User-Agent": "qcoder"}
        return common | ({"Authorization": f"Bearer {self.key}"} if self.key else {})


class EventStream:
    """The server-sent events of one POST. `poll` from one thread; `close` is idempotent."""

    def __init__(self, endpoint: Endpoint, path: str, body: dict[str, Any]) -> None:
        self.ended = False
        self._endpoint, self._path = endpoint, path
        self._body = json.dumps(body).encode()
        self._events: queue.SimpleQueue[str | RemoteError | None] = queue.SimpleQueue()
        self._closed = threading.Event()
        self._socket: socket.socket | None = None
        threading.Thread(target=self._run, name="qcoder-remote", daemon=True).start()

    def poll(self, timeout_s: float) -> str | None:
        """The data of the next event; None when none came in time, or when `ended` is set.

        Raises `RemoteError` where the server failed.
        """
        try:
            event = self._events.get(timeout=timeout_s)
        except queue.Empty:
            return None
        if isinstance(event, RemoteError):
            raise event
        self.ended = event is None
        return event

    def close(self) -> None:
        """Close the connection, which tells the server to stop; waits for nothing."""
        self._closed.set()
        if self._socket is not None:
            shut(self._socket)

    def _run(self) -> None:
        connection = connect_later(self._endpoint)
        try:
            open_connection(connection, self._endpoint)
            self._socket = connection.sock
            if self._closed.is_set():  # meanwhile
                return
            path = self._endpoint.path + self._path
            connection.request("POST", path, self._body, self._endpoint.headers())
            self._forward(accepted(connection, self._endpoint))
        except RemoteError as error:
            self._events.put(error)
        except FAILURES as error:
            self._events.put(broken(self._endpoint, error))
        finally:
            connection.close()

    def _forward(self, response: HTTPResponse) -> None:
        kind = response.headers.get_content_type()
        with response:
            if kind != "text/event-stream":
                raise RemoteError(
                    f"{self._endpoint.name} answers with {kind}, not with a stream of events; is it "
                    "an OpenAI-compatible server?"
                )
            while line := response.readline(MAX_LINE_BYTES):
                if line.startswith(b"data:"):
                    data = line[5:].strip().decode("utf-8", "replace")
                    self._events.put(None if data == "[DONE]" else data)
                    if data == "[DONE]":
                        return
        raise RemoteError(f"{self._endpoint.name} broke off in the middle of its answer")


def fetch_json(endpoint: Endpoint, path: str) -> Any:
    """The JSON under a path; raises `RemoteError`, whose `status` is the server's."""
    connection = connect_later(endpoint)
    try:
        open_connection(connection, endpoint)
        connection.request("GET", endpoint.path + path, headers=endpoint.headers())
        with accepted(connection, endpoint) as response:
            return json.loads(response.read(MAX_JSON_BYTES))
    except json.JSONDecodeError:
        raise RemoteError(f"{endpoint.name}{path} is no JSON; check remote.url") from None
    except FAILURES as error:
        raise broken(endpoint, error) from None
    finally:
        connection.close()


def connect_later(endpoint: Endpoint) -> HTTPConnection:
    """A connection that is not open yet; certificates are verified."""
    kind = HTTPSConnection if endpoint.secure else HTTPConnection
    return kind(endpoint.host, endpoint.port, timeout=min(CONNECT_TIMEOUT_S, endpoint.timeout_s))


def open_connection(connection: HTTPConnection, endpoint: Endpoint) -> None:
    """Connect; from here on the patience is that of the settings. Raises `RemoteError`."""
    try:
        connection.connect()
    except ssl.SSLCertVerificationError as error:
        raise RemoteError(
            f"{endpoint.name}: its certificate is not trusted ({error.verify_message}); set "
            "SSL_CERT_FILE to your company's certificates"
        ) from None
    except OSError as error:
        raise RemoteError(
            f"{endpoint.name} cannot be reached ({error.strerror or error}); is the server "
            "running, and is remote.url right?"
        ) from None
    connection.sock.settimeout(endpoint.timeout_s)


def accepted(connection: HTTPConnection, endpoint: Endpoint) -> HTTPResponse:
    """The response when its status is 200; raises `RemoteError` that says what to do."""
    response = connection.getresponse()
    if response.status == 200:
        return response
    with response:
        logger.debug("remote status=%d body=%r", response.status, response.read(2000))
    if 300 <= response.status < 400:
        advice = "redirects to another address; set remote.url to where the server really is"
    else:
        advice = REFUSALS.get(response.status, "failed; see the server's own log")
    raise RemoteError(f"{endpoint.name} {advice} (HTTP {response.status})", response.status)


def broken(endpoint: Endpoint, error: Exception) -> RemoteError:
    """What a connection that failed means."""
    if isinstance(error, TimeoutError):
        return RemoteError(
            f"{endpoint.name} was silent for {endpoint.timeout_s:g} s; see remote.timeout_s"
        )
    return RemoteError(f"{endpoint.name} broke the connection ({type(error).__name__})")


def shut(connected: socket.socket) -> None:
    """Wake whoever reads from a socket, and tell the peer."""
    try:
        connected.shutdown(socket.SHUT_RDWR)
    except OSError:
        logger.debug("the peer was gone already")
