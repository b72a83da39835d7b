"""A W&B run by the real client: quiet, in the run's own directory, and without what the harness records by itself."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.config.schema import TrackingConfig
from harness.tracking.identity import Identity
from harness.tracking.wandb_directory import OpenedRun

if TYPE_CHECKING:
    import wandb


ANSWER_SECONDS = 10.0
"""For the first answer of a server; the client itself would try for a minute or more to reach one that is not there."""


class TrackingError(Exception):
    """W&B cannot be reached, or refuses. The message is for users."""


@dataclass(frozen=True, kw_only=True)
class WandbTarget:
    """Where and how rows go to W&B: by the configuration, else the client's environment variables, else the harness's defaults."""

    mode: str
    """online, offline or disabled; the client's rarer modes pass through."""
    project: str
    entity: str | None
    tags: list[str]
    system_metrics: bool
    metadata: bool

    @property
    def is_offline(self) -> bool:
        return self.mode in ("offline", "dryrun")

    @classmethod
    def of(cls, config: TrackingConfig) -> WandbTarget:
        return cls(
            mode=config.mode or os.environ.get("WANDB_MODE") or "offline",
            project=config.project or os.environ.get("WANDB_PROJECT") or "harness",
            entity=config.entity or os.environ.get("WANDB_ENTITY") or None,
            tags=list(config.tags),
            system_metrics=config.system_metrics,
            metadata=config.metadata,
        )

    def from_elsewhere(self) -> WandbTarget:
        """Online, from a process that does not train: its machine would be taken for that of the run."""
        return replace(self, mode="online", system_metrics=False, metadata=False)

    def as_opened(self, opened: OpenedRun | None) -> WandbTarget:
        """Where the run is already: an environment that named another project when it was trained is gone by now."""
        return self if opened is None else replace(self, entity=opened.entity or self.entity, project=opened.project)


@contextmanager
def tracking_errors(what: str) -> Iterator[None]:
    """Whatever goes wrong with W&B in the block is raised as TrackingError: "<what>: <why>"."""
    try:
        yield
    except TrackingError:
        raise
    # wandb raises errors of its own, built-in ones, and those of its connections; and calls sys.exit() when its service ends badly.
    except (Exception, SystemExit) as error:
        raise TrackingError(f"{what}: {type(error).__name__}: {' '.join(str(error).split())}") from error


@contextmanager
def client() -> Iterator[None]:
    """Whatever happens inside, the client's own process ends with the block. Where something failed it is not waited for."""
    import wandb  # half a second to two: only here, in the thread that can afford it

    # For the whole process: no words on the console, and no question about an API key on a terminal.
    wandb.setup(wandb.Settings(silent=True))
    try:
        yield
    except BaseException:
        kill_client()
        raise
    finally:
        wandb.teardown()


def has_login() -> bool:
    """Within `client`: whether there is something to log in with."""
    import wandb

    return bool(wandb.api.api_key or os.environ.get("WANDB_IDENTITY_TOKEN_FILE"))


def refuse_unreachable() -> None:
    """Within `client`: raise TrackingError where its server does not answer at all."""
    import requests
    import wandb

    address = str(wandb.setup(wandb.Settings(silent=True)).settings.base_url)
    try:
        requests.get(address, timeout=ANSWER_SECONDS, allow_redirects=False, stream=True).close()
    except requests.RequestException as error:
        raise TrackingError(f"W&B at {address} does not answer ({type(error).__name__})") from error


def start_run(
    target: WandbTarget,
    *,
    identity: Identity,
    directory: Path,
    hyperparameters: dict[str, Any],
    init_seconds: float,
    finish_seconds: float,
) -> wandb.Run:
    """A run that exists once whatever its attempts, within `client`. The client writes into `directory`/wandb."""
    # The client would fall back to a temporary directory; this says what is wrong, and before anything is started.
    (directory / "wandb").mkdir(parents=True, exist_ok=True)

    import wandb

    run = wandb.init(
        project=target.project,
        entity=target.entity,
        dir=directory,
        id=identity.id,
        # Attempts on the same run: the id decides, and steps are explicit.
        resume="allow",
        # Never another run that user code may have open in this process.
        reinit="create_new",
        name=identity.name,
        group=identity.group,
        job_type=identity.job_type,
        tags=list(dict.fromkeys([*identity.tags, *target.tags])),
        config=hyperparameters,
        # Whatever WANDB_MODE says; the client itself knows more modes than its signature.
        settings=wandb.Settings(
            mode=target.mode,  # type: ignore[arg-type]
            init_timeout=init_seconds,
            finish_timeout=finish_seconds,
            finish_timeout_raises=True,  # rows that were not uploaded are worth a word
            silent=True,
            console="off",
            disable_code=True,
            save_code=False,
            disable_git=not target.metadata,
            x_disable_meta=not target.metadata,
            x_save_requirements=target.metadata,
            x_disable_stats=not target.system_metrics,
            # A killed attempt loses at most so many seconds of rows (15 by default).
            x_transaction_log_flush_interval=2,
        ),
    )
    if not Path(run.dir).resolve().is_relative_to(directory.resolve()):
        raise OSError(f"{directory} cannot be written to: W&B went to {run.dir} instead")
    return run


def kill_client() -> None:
    """End the client's own process now; calls that wait for it fail. Else it would keep this process from exiting while it retries.

    The client has no public way to do this: where its insides have changed, nothing happens and the exit waits for the client.
    """
    from wandb.sdk import wandb_setup

    setup: Any = wandb_setup
    with suppress(AttributeError):
        connection = setup._singleton._connection
        connection._proc._process.kill()
        # Else the client's exit hook would talk to the dead process, and say on the console that it could not.
        connection._cleanup()
        # Who sets the client up again gets a new process.
        setup._singleton = None
        os.environ.pop("WANDB_SERVICE", None)
