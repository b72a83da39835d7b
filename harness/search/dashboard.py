"""optuna-dashboard on a study's record, wherever that is kept: to look at, not to change, while workers write to it."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Iterable
from functools import partial
from typing import TYPE_CHECKING, Any
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

from harness.config.errors import InputError, wrong_value
from harness.runs.directory import StudyDirectory
from harness.search.storage.build import open_storage

if TYPE_CHECKING:
    from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

HOST = "127.0.0.1"
"""Of this machine alone: whoever reaches the page sees the study, and it asks for no password."""
REFUSED = b'{"reason": "harness shows this study read-only: its workers write to it"}'


def dashboard_server(directory: StudyDirectory, port: int) -> WSGIServer:
    """A server on the loopback address, bound and not yet serving. port: 0 takes one that is free.

    Raises InputError where optuna-dashboard is not installed, the port is taken, or the study's database cannot be reached.
    """
    if importlib.util.find_spec("optuna_dashboard") is None:
        raise InputError("harness dashboard needs optuna-dashboard, which is not installed: pip install 'harness[dashboard]'")
    from optuna_dashboard import _app, wsgi

    from harness.search.shown_storage import ShownStorage, shown_front

    # Of several objectives it takes every trial that none beats, constraints or not; there is no public way to say more.
    _app.get_pareto_front_trials = partial(shown_front, directory)
    storage = open_storage(directory).optuna_as(lambda log: ShownStorage(log, directory))
    application: Any = _read_only(wsgi(storage))
    try:
        return make_server(HOST, port, application, handler_class=_Quiet)
    except (OSError, OverflowError) as error:
        raise wrong_value("--port", port, f"cannot be listened on ({error}); --port 0 takes one that is free") from error


def _read_only(application: WSGIApplication) -> Callable[[WSGIEnvironment, StartResponse], Iterable[bytes]]:
    """The journal is changed by the workers alone, under the study's lock."""

    def answer(environment: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        if environment["REQUEST_METHOD"] not in ("GET", "HEAD"):
            start_response("403 Forbidden", [("Content-Type", "application/json")])
            return [REFUSED]
        return application(environment, start_response)

    return answer


class _Quiet(WSGIRequestHandler):
    def log_message(self, format: str, *args: Any) -> None:
        """No line a request."""
