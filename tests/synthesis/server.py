"""A server of OpenAI's protocol on loopback, whose answers a test says."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

Body = dict[str, Any]


@dataclass
class Reply:
    """What is answered."""

    code: int = 200
    content: bytes = b""
    headers: dict[str, str] = field(default_factory=dict)
    after_seconds: float = 0.0
    """Before the first byte."""
    length: int | None = None
    """The Content-Length that is said, where it is not the true one."""


def completion(text: str | None, *, finish: str = "stop", **keys: Any) -> Reply:
    """A text, as chat/completions answers."""
    choice = {"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": finish}
    usage = {"prompt_tokens": 11, "completion_tokens": 3}
    document = {"model": "served", "system_fingerprint": "f1", "choices": [choice], "usage": usage, **keys}
    return Reply(content=json.dumps(document).encode())


@dataclass
class Server:
    """What was asked, and how it is answered."""

    reply: Callable[[Body], Reply]
    address: str = ""
    paths: list[str] = field(default_factory=list)
    bodies: list[Body] = field(default_factory=list)
    keys: list[str | None] = field(default_factory=list)
    times: list[float] = field(default_factory=list)
    under_way: int = 0
    most_under_way: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)

    def tries(self, prompt: str) -> int:
        """How often a prompt has been asked."""
        with self.lock:
            return sum(prompt_of(body) == prompt for body in self.bodies)


def prompt_of(body: Body) -> str:
    return str(body["prompt"] if "prompt" in body else body["messages"][-1]["content"])


@contextmanager
def serving(reply: Callable[[Body], Reply]) -> Iterator[Server]:
    """A server for as long as the block lasts."""
    server = Server(reply)

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            with server.lock:
                server.paths.append(self.path)
                server.bodies.append(body)
                server.keys.append(self.headers.get("Authorization"))
                server.times.append(time.monotonic())
                server.under_way += 1
                server.most_under_way = max(server.most_under_way, server.under_way)
            said = server.reply(body)
            time.sleep(said.after_seconds)
            with server.lock:
                server.under_way -= 1  # before its client can know, and send the next
            try:
                self.send_response(said.code)
                for name, value in said.headers.items():
                    self.send_header(name, value)
                self.send_header("Content-Length", str(len(said.content) if said.length is None else said.length))
                self.end_headers()
                self.wfile.write(said.content)
            except (BrokenPipeError, ConnectionResetError):
                self.close_connection = True  # the client has gone

        def log_message(self, *args: Any) -> None:
            """Nothing is said."""

    class Quiet(ThreadingHTTPServer):
        daemon_threads = True
        request_queue_size = 64

    with Quiet(("127.0.0.1", 0), Handler) as http:
        server.address = f"http://127.0.0.1:{http.server_address[1]}/v1"
        thread = threading.Thread(target=http.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
        thread.start()
        try:
            yield server
        finally:
            http.shutdown()
            thread.join()
