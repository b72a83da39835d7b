"""`harness`, and `python`, from a process that has imported everything: a command is a fork of it, and starts in a tenth of a second
instead of ten.

It is a process of its own all the same, with its own arguments, directory, environment, files and exit code. The programs in
`Warm.programs` ask for it, wait for its end, pass signals on and end as it ended; when they are killed, it is. What it starts with
`sys.executable` (workers, servers of attempts, ranks) are such forks, too. Not for tests of what is imported, of a process's limits or
session, or of terminals.
"""

from __future__ import annotations

import atexit
import contextlib
import functools
import gc
import importlib
import json
import multiprocessing
import os
import pkgutil
import runpy
import select
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import traceback
import types
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import IO, Any, NoReturn

ROOT = Path(__file__).parent.parent.parent
PYTHON = Path(sys.executable)
HARNESS = PYTHON.with_name("harness")
MESSAGE_BYTES = 1 << 20
MAX_FILES = 250
DIED = "the warm process died while it imported what it needs"
PLACE = "TESTS_WARM_PLACE"
"""The variable in which processes of a parallel test run find where the others' are."""


def _modules(floor: str) -> list[pkgutil.ModuleInfo]:
    return list(pkgutil.iter_modules([str(ROOT / "harness" / floor)]))


SEARCH = (
    "harness.cli.main",
    "harness.search.worker",
    "harness.search.open_study",
    "optuna",
    "tests.search.studies",
    "tests.support.warm_composition",
)
"""For workers whose attempts train nothing: the less there is in memory, the sooner is a process forked."""
ALL = (
    # First: its models read their docstrings from sources, which takes the longer the more modules there are.
    "harness.tracking.warm",
    "harness.cli.main",
    "harness.training.train",
    "harness.training.measure",
    "harness.search.worker",
    "harness.work.attempt",
    "transformers.models.llama.modeling_llama",
    "optuna",
    "peft",
    "plotly",
    "pyarrow.parquet",
    "sklearn.ensemble",
    "tests.support.warm_composition",
    *(f"harness.{floor}.{module.name}" for floor in ("cli", "work", "report", "search", "launch") for module in _modules(floor)),
)

# Only what every Python has without its site-packages: it starts in twenty milliseconds.
CLIENT = """#!{python} -IS
import json, os, signal, socket, sys
files = [file for file in map(int, os.listdir("/proc/self/fd")) if file < 3 or os.path.exists(f"/proc/self/fd/{{file}}")]
server = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
server.connect({address!r})
umask = os.umask(0)
os.umask(umask)
request = dict(program={program!r}, arguments=sys.argv[1:], cwd=os.getcwd(), env=dict(os.environ), umask=umask, files=files)
socket.send_fds(server, [json.dumps(request).encode()], files)
pid = int(server.recv(100))
for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2):
    if signal.getsignal(number) != signal.SIG_IGN:
        signal.signal(number, lambda number, frame: os.kill(pid, number))
code = int(server.recv(100))
if code < 0:
    if -code != signal.SIGKILL:
        signal.signal(-code, signal.SIG_DFL)
    os.kill(os.getpid(), -code)
os._exit(code)
"""


class Warm:
    """The process and the programs that ask it. It ends, and all that it began, with the process that started it."""

    def __init__(self, place: Path) -> None:
        """place: the directory of one that was started. Waits until it has imported all that it needs."""
        self._address = str(place / "socket")
        self.programs = place / "bin"
        """For PATH: `harness` and `python`."""
        self.harness = self.programs / "harness"
        status = Path("/proc", (place / "pid").read_text(), "stat")
        while not Path(self._address).exists():
            assert status.exists(), DIED
            assert status.read_text().rpartition(")")[2].split()[0] != "Z", DIED
            time.sleep(0.05)

    def start(
        self, program: str, arguments: Sequence[str | Path], *, cwd: Path, env: dict[str, str], stdout: IO[Any], stderr: IO[Any]
    ) -> Process:
        """Start `harness` or `python` in a process group of its own; it reads nothing."""
        request = {
            "program": program,
            "arguments": [*map(str, arguments)],
            "cwd": str(cwd),
            "env": env,
            "umask": _umask(),
            "files": [0, 1, 2],
            "group": True,
        }
        server = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        server.connect(self._address)
        with Path(os.devnull).open("rb") as nothing:
            files = [nothing.fileno(), stdout.fileno(), stderr.fileno()]
            socket.send_fds(server, [json.dumps(request).encode()], files)
        return Process(server)


def _umask() -> int:
    umask = os.umask(0)
    os.umask(umask)
    return umask


class Process:
    """A command that was started; as subprocess.Popen has it."""

    def __init__(self, server: socket.socket) -> None:
        self._server = server
        self.pid = int(server.recv(100))
        self.returncode: int | None = None

    def wait(self, timeout: float | None = None) -> int:
        """Its exit code, or the signal that ended it, negative. Raises subprocess.TimeoutExpired."""
        if self.returncode is None:
            self._server.settimeout(timeout)
            try:
                self.returncode = int(self._server.recv(100))
            except (TimeoutError, BlockingIOError):
                raise subprocess.TimeoutExpired(f"pid {self.pid}", timeout or 0.0) from None
            self._server.close()
        return self.returncode

    def poll(self) -> int | None:
        """None while it runs."""
        try:
            return self.wait(0.0)
        except subprocess.TimeoutExpired:
            return None

    def send_signal(self, number: int) -> None:
        """Nothing where it has ended."""
        if self.poll() is None:
            os.kill(self.pid, number)

    def kill(self) -> None:
        """The same as send_signal(SIGKILL)."""
        self.send_signal(signal.SIGKILL)


@functools.cache
def shared(modules: tuple[str, ...] = ALL) -> Warm:
    """That of this test run. One of several processes finds what `start_for_all` has started."""
    return Warm(Path(os.environ[PLACE]) / _name(modules) if PLACE in os.environ else _start(_new_place(), modules))


def start_for_all() -> None:
    """Start them for the processes that this one is going to start: to import everything takes ten seconds, and half a gigabyte."""
    place = _new_place()
    for modules in (ALL, SEARCH):
        _start(place, modules)
    os.environ[PLACE] = str(place)


def _name(modules: tuple[str, ...]) -> str:
    return "all" if modules == ALL else "search"


def _new_place() -> Path:
    place = Path(tempfile.mkdtemp(prefix="harness-"))
    atexit.register(shutil.rmtree, place, ignore_errors=True)
    return place


def _start(root: Path, modules: tuple[str, ...]) -> Path:
    """Returns its directory: with a path of 90 characters at most."""
    place = root / _name(modules)
    programs, address = place / "bin", str(place / "socket")
    programs.mkdir(parents=True)
    for program in ("harness", "python"):
        path = programs / program
        path.write_text(CLIENT.format(python=PYTHON, address=address, program=program))
        path.chmod(0o755)
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "PASSIVE", "PYTHONPATH": str(ROOT)}
    command = [PYTHON, "-m", "tests.support.warm", address, *modules]
    process = subprocess.Popen(command, env=environment, cwd=ROOT, stdin=subprocess.PIPE)
    (place / "pid").write_text(str(process.pid))
    # With its standard input it ends, and no command is left running.
    atexit.register(process.communicate)
    return place


class _Server:
    """One thread alone: what is forked from it must find no lock held."""

    def __init__(self, address: str, modules: list[str]) -> None:
        for module in modules:
            importlib.import_module(module)
        gc.freeze()
        self._own = Path(address).parent / "bin"
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        # Who finds the address may connect.
        self._listener.bind(f"{address}.new")
        self._listener.listen(64)
        Path(f"{address}.new").rename(address)
        self._poll = select.poll()
        self._poll.register(self._listener, select.POLLIN)
        self._poll.register(0, select.POLLHUP)
        self._commands: dict[int, tuple[socket.socket, int, int]] = {}
        """By file descriptor, the client's and that of its process: the connection, the process, and the file descriptor of the latter."""

    def serve(self) -> dict[str, Any]:
        """Returns in forked processes alone, with what they were asked to do."""
        while True:
            for ready, _ in self._poll.poll():
                if ready == 0:
                    for _, pid, _ in self._commands.values():
                        os.kill(pid, signal.SIGKILL)
                    sys.exit()
                if ready == self._listener.fileno():
                    if request := self._begin():
                        return request
                elif ready in self._commands:
                    self._end(ready)

    def _begin(self) -> dict[str, Any] | None:
        client, _ = self._listener.accept()
        message, files, _, _ = socket.recv_fds(client, MESSAGE_BYTES, MAX_FILES)
        if not message:  # killed before it could ask
            client.close()
            return None
        pid = os.fork()
        if not pid:
            client.detach()
            request: dict[str, Any] = json.loads(message)
            if request.get("group"):
                os.setpgid(0, 0)
            self._take_files(files, request["files"])
            multiprocessing.set_executable(str(self._own / "python"))
            sys.executable = str(self._own / "python")
            return request
        for file in files:
            os.close(file)
        process = os.pidfd_open(pid)
        for number in (client.fileno(), process):
            self._commands[number] = client, pid, process
            self._poll.register(number, select.POLLIN)
        with contextlib.suppress(BrokenPipeError):
            client.send(str(pid).encode())
        return None

    def _take_files(self, files: list[int], wanted: list[int]) -> None:
        """In a forked process: no files but those of whoever asked, under their own numbers."""
        # Or else these objects would close, when they go, what has their numbers then.
        for ours in (self._listener, *(client for client, _, _ in self._commands.values())):
            ours.detach()
        apart = [os.dup2(file, 1000 + place) for place, file in enumerate(files)]
        os.closerange(3, 1000)
        for file, number in zip(apart, wanted, strict=True):
            os.dup2(file, number)
        os.closerange(1000, 1000 + len(apart))

    def _end(self, ready: int) -> None:
        client, pid, process = self._commands[ready]
        if ready != process:
            # The client is gone: it was killed, or its test took too long.
            os.kill(pid, signal.SIGKILL)
        code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        with contextlib.suppress(BrokenPipeError):
            client.send(str(code).encode())
        for number in (client.fileno(), process):
            del self._commands[number]
            self._poll.unregister(number)
        client.close()
        os.close(process)


def _keep_directories_of_the_client() -> None:
    """W&B's client made them when it was imported, for all commands: the first that ends must not remove them."""
    if "wandb" not in sys.modules:
        return
    from wandb import Artifact
    from wandb.sdk.data_types._private import MEDIA_TMP

    for directory in (MEDIA_TMP, Artifact._TMP_DIR):
        atexit.unregister(directory.cleanup)
        directory._finalizer.detach()


def _run(request: dict[str, Any]) -> None:
    """Be the program that was asked for, as a new interpreter would be."""
    os.umask(request["umask"])
    os.chdir(request["cwd"])
    os.environ.clear()
    os.environ.update(request["env"])
    # Those that were there know what the files of the server were, e.g. whether one can seek in them.
    sys.stdin = sys.__stdin__ = open(0, encoding="utf-8", closefd=False)  # noqa: SIM115
    sys.stdout = sys.__stdout__ = open(1, "w", encoding="utf-8", closefd=False)  # noqa: SIM115
    sys.stderr = sys.__stderr__ = open(2, "w", encoding="utf-8", errors="backslashreplace", closefd=False, buffering=1)  # noqa: SIM115
    arguments: list[str] = request["arguments"]
    _keep_directories_of_the_client()
    main = types.ModuleType("__main__")
    sys.modules["__main__"] = main
    if request["program"] == "harness" or arguments[:1] == [str(HARNESS)]:
        from harness.cli.main import main as run

        sys.argv = [str(HARNESS), *arguments[request["program"] != "harness" :]]
        run()
        return
    flags = 0
    while arguments[flags : flags + 1] and arguments[flags] in ("-B", "-u", "-s", "-E"):
        flags += 1
    match arguments[flags:]:
        case ["-m", module, *rest]:
            sys.argv = [module, *rest]
            runpy.run_module(module, run_name="__main__", alter_sys=True)
        case ["-c", program, *rest]:
            sys.argv = ["-c", *rest]
            exec(program, main.__dict__)
        case ["-", *rest]:
            sys.argv = ["-", *rest]
            exec(compile(sys.stdin.read(), "<stdin>", "exec"), main.__dict__)
        case [program, *rest] if program.endswith(".py"):
            sys.argv = [program, *rest]
            runpy.run_path(program, run_name="__main__")
        case _:
            os.execv(PYTHON, [str(PYTHON), *arguments])


def _end_like_a_program(run: Callable[[], None]) -> NoReturn:
    """All that the end of an interpreter does but to take its modules apart, which would copy the memory that all commands share."""
    try:
        run()
        code = 0
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else int(end.code is not None)
        if isinstance(end.code, str):
            print(end.code, file=sys.stderr)
    except BaseException:  # noqa: BLE001, as an interpreter does
        traceback.print_exc()
        code = 1
    threading._shutdown()  # type: ignore[attr-defined]
    atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(BrokenPipeError, ValueError):
            stream.flush()
    os._exit(code)


if __name__ == "__main__":
    request = _Server(sys.argv[1], sys.argv[2:]).serve()
    _end_like_a_program(lambda: _run(request))
