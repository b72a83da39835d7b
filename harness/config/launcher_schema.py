"""The configuration of a launcher: where workers and single runs are started, and the facts of the cluster that they are started on."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, Literal

from annotated_types import Ge

from harness.config.schema import Count, Name, OnlyFor, Section

SLURM = OnlyFor(("slurm",))


@dataclass(kw_only=True)
class LauncherConfig(Section):
    """Where the workers of a study, or a single run, are started. A file of the group is a profile: the facts of one cluster."""

    name: Literal["local", "slurm"] = "local"
    """local: processes on this machine; slurm: one job array of workers, or a job for a single run; nothing stays on the login node."""
    workers: Count = 2
    """How many trials run at a time; locally, the machine's cores are shared out among them."""
    max_running: Annotated[Count | None, SLURM] = None
    """At most this many elements of a job array run at the same time (`--array=…%K`); null: all that Slurm has room for."""
    cluster: Annotated[Name | None, SLURM] = None
    """The cluster among several that Slurm's commands serve (`--clusters`); null: the only one."""
    account: Annotated[Name | None, SLURM] = None
    """Which account is charged; null: your default one. So for partition and qos."""
    partition: Annotated[Name | None, SLURM] = None
    """The partition, or several with commas."""
    qos: Annotated[Name | None, SLURM] = None
    """The quality of service."""
    reservation: Annotated[Name | None, SLURM] = None
    """The reservation to run in."""
    constraint: Annotated[Name | None, SLURM] = None
    """Features that nodes must have, e.g. "a100&nvlink"."""
    time: Annotated[Name | None, SLURM] = None
    """Time limit of a job, as "HH:MM:SS" or "D-HH:MM:SS", in quotes; null: the partition's. A worker that reaches it saves a checkpoint,
    and its job goes back into the queue."""
    signal_lead_seconds: Annotated[Count, SLURM] = 180
    """How long before the time limit a job is told to save a checkpoint: longer than a step and a save, and a minute. Slurm may be a minute
    late."""
    requeue: Annotated[bool, SLURM] = True
    """Whether a job that was preempted, lost its node or reached its time limit goes back into the queue."""
    tasks_per_node: Annotated[Count | None, SLURM] = None
    """Processes that srun starts on each node; null: trainer.devices where trainer.nodes is more than 1, else one, which starts those of
    its node by itself."""
    gpus_per_node: Annotated[Annotated[int, Ge(0)] | None, SLURM] = None
    """GPUs of a worker on each of its nodes; null: trainer.devices, none with trainer.accelerator=cpu."""
    gpu_type: Annotated[Name | None, SLURM] = None
    """The kind of GPU, as `sinfo -o %G` spells it: a100; null: any."""
    cpus_per_task: Annotated[Count | None, SLURM] = None
    """CPUs of each process that srun starts; null: Slurm's default, mostly 1."""
    memory: Annotated[Name | None, SLURM] = None
    """Host memory on each node, e.g. 64G; null: Slurm's default."""
    exclusive: Annotated[bool, SLURM] = False
    """Whether a worker has its nodes for itself."""
    setup: Annotated[list[str], SLURM] = field(default_factory=list)
    """Lines of bash that a job runs first: [module load cuda/12.4, source ~/venv/bin/activate]."""
    environment: Annotated[dict[str, str], SLURM] = field(default_factory=dict)
    """Variables that jobs get, and the preparation of data: {HARNESS_CACHE: /scratch/me/cache, HF_HUB_OFFLINE: "1"}. Values stand as they
    are, no variable is looked up in them."""
    scratch: Annotated[Name | None, SLURM] = None
    """A directory on the disk of the node for temporary files (TMPDIR). Variables of the job are looked up in it: $SLURM_TMPDIR."""
    container: Annotated[Name | None, SLURM] = None
    """A command that runs what follows it inside a container: apptainer exec --nv /images/torch.sif. Slurm's commands need not be in it."""
    python: Annotated[Name | None, SLURM] = None
    """The Python that has the harness, on the nodes or in the container; null: the one that launches."""
    srun_options: Annotated[list[str], SLURM] = field(default_factory=list)
    """Further options of srun: [--container-image=/images/torch.sqsh, --cpu-bind=none]."""
    sbatch_options: Annotated[list[str], SLURM] = field(default_factory=list)
    """Further options of sbatch, and of what it submits: [--mail-type=END, --exclude=node7]. They have the last word."""
    prepare: Annotated[Literal["here", "job"], SLURM] = "here"
    """Where text is tokenized before the first trial. here: in this command, which then refuses bad data; job: in a job of one task that
    the others wait for, where there is much text, or a login node without torch."""


@dataclass(kw_only=True)
class LaunchConfig(Section):
    """What the verbs for single runs read of a command line besides the run's own configuration."""

    launcher: LauncherConfig = field(default_factory=LauncherConfig)
