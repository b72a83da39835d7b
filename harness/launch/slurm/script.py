"""The batch script: plain text, from a template that anybody can read and change (slurm/job.sbatch)."""

from __future__ import annotations

import shlex
from dataclasses import dataclass, field
from pathlib import Path

from harness.config.errors import InputError
from harness.config.launcher_schema import LauncherConfig
from harness.config.schema import TrainerConfig
from harness.runs.exit_codes import BAD_INPUT, DONE, FAILED, STOPPED

TEMPLATE = "job.sbatch"
SIGNAL = "USR2"
"""Not USR1, which NCCL may take for itself."""
GRACE_SECONDS = 60
"""How long a job waits for Slurm to end it, when its processes were told to leave and it does not know why."""
QUICK_DEATH_SECONDS = 30
MAX_QUICK_DEATHS = 3
"""A job whose processes die so soon, so often, is not requeued: the work is not the cause."""


@dataclass(frozen=True, kw_only=True)
class Shape:
    """What a worker, or a single run, asks Slurm for, and how its processes are laid out."""

    nodes: int
    tasks_per_node: int
    ranks_per_task: int
    """Processes that train in each task: the first one starts the others."""
    gpus_per_node: int


def shape_of(launcher: LauncherConfig, trainer: TrainerConfig) -> Shape:
    """What the trainer of a run needs of the cluster."""
    tasks = launcher.tasks_per_node or (trainer.devices if trainer.nodes > 1 else 1)
    gpus = launcher.gpus_per_node
    return Shape(
        nodes=trainer.nodes,
        tasks_per_node=tasks,
        ranks_per_task=max(1, trainer.devices // tasks),
        gpus_per_node=gpus if gpus is not None else 0 if trainer.accelerator == "cpu" else trainer.devices,
    )


@dataclass(frozen=True, kw_only=True)
class BatchJob:
    """One submission: everything that its script says."""

    title: str
    name: str
    """What squeue shows."""
    arguments: list[str]
    """Of Python."""
    script: Path
    """Where the script will be."""
    log: Path
    """Where its output goes: Slurm's %j, or %A and %a, in the file's name."""
    directory: Path
    """Where it runs: relative paths in configurations start there."""
    python: str
    tasks: int | None = None
    """How many elements its array has; None for a job that is no array."""
    shape: Shape
    environment: dict[str, str] = field(default_factory=dict)
    """Variables, those of the profile not among them."""
    after: tuple[int, ...] = ()
    """The jobs that have to end well before this one starts."""
    final_codes: tuple[int, ...] = (DONE, FAILED, BAD_INPUT)
    """Exit codes with which it has come to an end, well or not; with others it wants to go on, or was killed."""
    resumable: bool = True
    """Whether it saves checkpoints when it is told to leave, and so goes back into the queue."""


def render(job: BatchJob, launcher: LauncherConfig, template: str, *, template_path: Path) -> str:
    """The text of the batch script. A pure function of its arguments. Raises InputError for names and templates that make none.

    template: jinja2; names are the keywords below, and the filter `quote` makes a word of the shell.
    """
    import jinja2
    from jinja2.sandbox import SandboxedEnvironment

    for what, value in {"working directory": job.directory, "script": job.script, "log": job.log, "title": job.title}.items():
        if not str(value).isprintable():
            raise InputError(f"{what} {str(value)!r}: a batch script cannot hold its line break or control character; valid: another name")
    engine = SandboxedEnvironment(undefined=jinja2.StrictUndefined, keep_trailing_newline=True, autoescape=False)
    engine.filters["quote"] = lambda value: shlex.quote(str(value))
    given = {
        "title": job.title,
        "template": template_path,
        "script": job.script,
        "options": [*_options(job, launcher), *launcher.sbatch_options],
        "setup": launcher.setup,
        "environment": {**job.environment, **launcher.environment},
        "scratch": launcher.scratch,
        "tasks_per_node": job.shape.tasks_per_node,
        "ranks_per_task": job.shape.ranks_per_task,
        "command": _command(job, launcher),
        "requeue": launcher.requeue and job.resumable,
        "stopped": STOPPED,
        "final_codes": job.final_codes,
        "crashes": None if job.tasks is None else job.log.parent,
        "quick_seconds": QUICK_DEATH_SECONDS,
        "quick_deaths": MAX_QUICK_DEATHS,
        "grace_seconds": GRACE_SECONDS,
    }
    try:
        return engine.from_string(template).render(given)
    except (jinja2.TemplateError, ArithmeticError, TypeError, ValueError, LookupError) as error:
        raise InputError(f"{template_path}: cannot be rendered: {type(error).__name__}: {error}") from error


def _command(job: BatchJob, launcher: LauncherConfig) -> str:
    """What each task runs. The options of srun and the container are the user's own words, and stand as they are."""
    words = ["srun", *launcher.srun_options, *([launcher.container] if launcher.container else [])]
    return " ".join([*words, *map(shlex.quote, [job.python, *job.arguments])])


def _options(job: BatchJob, launcher: LauncherConfig) -> list[str]:
    elements = None if job.tasks is None else f"0-{job.tasks - 1}" + (f"%{launcher.max_running}" if launcher.max_running else "")
    resumable = launcher.requeue and job.resumable
    return [
        *_given(
            {
                "job-name": job.name,
                "chdir": str(job.directory),
                "output": _pattern(job.log),
                "open-mode": "append",  # a requeue would else truncate the log
                "array": elements,
            }
        ),
        *requested(job, launcher),
        *_given(
            {
                "signal": f"B:{SIGNAL}@{launcher.signal_lead_seconds}" if job.resumable else None,
                "dependency": ":".join(["afterok", *map(str, job.after)]) if job.after else None,
                "kill-on-invalid-dep": "yes" if job.after else None,
            }
        ),
        "--requeue" if resumable else "--no-requeue",
    ]


def requested(job: BatchJob, launcher: LauncherConfig) -> list[str]:
    """The options by which the cluster takes a job or refuses it."""
    shape = job.shape
    kind = f":{launcher.gpu_type}" if launcher.gpu_type else ""
    given = _given(
        {
            "clusters": launcher.cluster,
            "account": launcher.account,
            "partition": launcher.partition,
            "qos": launcher.qos,
            "reservation": launcher.reservation,
            "constraint": launcher.constraint,
            "nodes": shape.nodes,
            "ntasks-per-node": shape.tasks_per_node,
            "gres": f"gpu{kind}:{shape.gpus_per_node}" if shape.gpus_per_node else None,
            "cpus-per-task": launcher.cpus_per_task,
            "mem": launcher.memory,
            "time": launcher.time,
        }
    )
    return [*given, *(["--exclusive"] if launcher.exclusive else [])]


def _given(options: dict[str, str | int | None]) -> list[str]:
    return [f"--{name}={_word(value)}" for name, value in options.items() if value is not None]


def _pattern(log: Path) -> str:
    """The path of a log as sbatch reads it, where only the file's name has Slurm's own %: those of folders are doubled."""
    return f"{str(log.parent).replace('%', '%%')}/{log.name}"


def _word(value: str | int) -> str:
    """A value as sbatch reads it after #SBATCH: quoted only where it must be."""
    text = str(value)
    plain = text and all(character.isalnum() or character in "_-./:%,=+@&|[]~" for character in text)
    return text if plain else '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'
