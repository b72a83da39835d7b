"""The HTTP side: GraphQL, the stream of a run's rows, and uploaded files, on 127.0.0.1 only."""

from __future__ import annotations

import contextlib
import gzip
import json
import re
import socket
import threading
import urllib.parse
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Literal

from tests.support.fake_wandb.artifacts import StoredArtifact
from tests.support.fake_wandb.graphql import GraphQLError
from tests.support.fake_wandb.runs import RunKey, StoredRun
from tests.support.fake_wandb.schema import Schema

Refusal = Callable[[Literal["graphql", "file_stream"], str], int | None]
"""Given the kind of a request and its name (of the operation, or the run's id): the HTTP status to refuse it with, or None.

0: the connection is closed without a word, as by a server that dies."""


class FakeWandb:
    """A W&B backend in memory, for the real client: `with FakeWandb() as backend:`, and `backend.environment` for the client's process."""

    entity = "fake-entity"

    def __init__(self) -> None:
        self.refusal: Refusal | None = None
        handler = type("Handler", (_Handler,), {"backend": self})
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"
        self.schema = Schema(self.entity, f"{self.url}/storage")

    def __enter__(self) -> FakeWandb:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    @property
    def environment(self) -> dict[str, str]:
        return {"WANDB_BASE_URL": self.url, "WANDB_API_KEY": "local-" + "0" * 40}

    @property
    def artifacts(self) -> list[StoredArtifact]:
        """In the order of their creation."""
        return self.schema.artifacts.stored

    @property
    def runs(self) -> dict[RunKey, StoredRun]:
        """By entity, project and run id."""
        return self.schema.runs


class _Handler(BaseHTTPRequestHandler):
    backend: FakeWandb
    protocol_version = "HTTP/1.1"

    def setup(self) -> None:
        super().setup()
        self.connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def log_message(self, *_: object) -> None:
        """Quiet."""

    def handle(self) -> None:
        with contextlib.suppress(ConnectionError):  # of a client that was killed
            super().handle()

    def do_GET(self) -> None:
        self._read()
        self._send(200 if self.path in ("/", "/healthz", "/ready") else 404, {})

    def do_PUT(self) -> None:
        content, parts = self._read(), self._parts()
        if parts[0] == "storage-artifacts":
            self.backend.schema.artifacts.put(parts[1], "/".join(parts[2:]), content)
            return self._send(200, {})
        if len(parts) < 5 or parts[0] != "storage":
            return self._send(404, {})
        entity, project, run = parts[1:4]
        self.backend.runs[entity, project, run].files["/".join(parts[4:])] = content
        return self._send(200, {})

    def do_POST(self) -> None:
        content, parts = self._read(), self._parts()
        if parts == ["graphql"]:
            return self._graphql(json.loads(content))
        if parts[0] == "files" and parts[-1] == "file_stream":
            entity, project, run = parts[1:4]
            return self._file_stream((entity, project, run), json.loads(content))
        # The client's own telemetry goes to /sdk/otel/.
        return self._send(200 if parts[0] == "sdk" else 404, {})

    def _graphql(self, request: dict[str, Any]) -> None:
        named = re.search(r"(?:query|mutation)\s+(\w+)", request["query"])
        if self._refused("graphql", named.group(1) if named else ""):
            return
        try:
            self._send(200, {"data": self.backend.schema.answer(request["query"], request.get("variables") or {})})
        except GraphQLError as error:
            self._send(200, {"data": None, "errors": [{"message": str(error)}]})

    def _file_stream(self, key: RunKey, body: dict[str, Any]) -> None:
        if self._refused("file_stream", key[2]):
            return
        with self.backend.schema.lock:
            run = self.backend.runs.get(key)
            if run is not None:
                run.stream(body)
        self._send(404 if run is None else 200, {"exitcode": None, "limits": {}})

    def _refused(self, kind: Literal["graphql", "file_stream"], name: str) -> bool:
        status = self.backend.refusal(kind, name) if self.backend.refusal else None
        if status == 0:
            self.close_connection = True
        elif status is not None:
            self._send(status, {"error": "refused by the test"})
        return status is not None

    def _parts(self) -> list[str]:
        path = urllib.parse.urlparse(self.path).path
        return [urllib.parse.unquote(part) for part in path.split("/") if part] or [""]

    def _read(self) -> bytes:
        if self.headers.get("Transfer-Encoding") == "chunked":
            content = b""
            while size := int(self.rfile.readline().split(b";")[0], 16):
                content += self.rfile.read(size)
                self.rfile.readline()
            self.rfile.readline()
        else:
            content = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        return gzip.decompress(content) if self.headers.get("Content-Encoding") == "gzip" else content

    def _send(self, status: int, document: dict[str, Any]) -> None:
        content = json.dumps(document).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)
