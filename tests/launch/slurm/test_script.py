"""The batch script as text, compared letter by letter. `HARNESS_WRITE_GOLDEN=1 pytest` writes the files anew, to look at the difference."""

from __future__ import annotations

import dataclasses
import os
import subprocess
from pathlib import Path

import pytest

from harness.config.errors import InputError
from harness.config.launcher import load_launcher
from harness.config.launcher_schema import LauncherConfig
from harness.config.locations import batch_template, shipped
from harness.config.schema import TrainerConfig
from harness.launch.slurm.script import TEMPLATE, BatchJob, Shape, render, shape_of

GOLDEN = Path(__file__).parent / "golden"
TEMPLATE_TEXT = (shipped("slurm") / TEMPLATE).read_text()

WORKERS = BatchJob(
    title="8 workers of the study cpt",
    name="cpt",
    arguments=["-m", "harness", "worker", "/scratch/me/runs/cpt"],
    script=Path("/scratch/me/runs/cpt/workers/slurm/job-1.sbatch"),
    log=Path("/scratch/me/runs/cpt/workers/slurm/%A_%a.log"),
    directory=Path("/home/me/project"),
    python="/home/me/project/.venv/bin/python",
    tasks=8,
    shape=Shape(nodes=1, tasks_per_node=1, ranks_per_task=1, gpus_per_node=1),
    environment={"HARNESS_RUNS": "/scratch/me/runs"},
    final_codes=(0, 2),
)
RUN = dataclasses.replace(
    WORKERS,
    title="The run it's 100% mine",
    name="it's 100% mine",
    arguments=["-m", "harness", "attempt", "/scratch/a b/it's 100% mine"],
    script=Path("/scratch/a b/it's 100% mine/slurm/job-2.sbatch"),
    log=Path("/scratch/a b/it's 100% mine/slurm/%j.log"),
    directory=Path('/home/me/my "project"'),
    tasks=None,
    shape=Shape(nodes=2, tasks_per_node=8, ranks_per_task=1, gpus_per_node=8),
    environment={"HARNESS_RUNS": "/scratch/a b"},
    after=(41,),
    final_codes=(0, 1, 2),
)
EVERYTHING = LauncherConfig(
    name="slurm",
    max_running=4,
    cluster="alps",
    account="project-7",
    partition="gpu,gpu-long",
    qos="high",
    reservation="course",
    constraint="a100&nvlink",
    time="1-12:00:00",
    signal_lead_seconds=300,
    gpu_type="a100",
    cpus_per_task=8,
    memory="480G",
    exclusive=True,
    setup=["module load cuda/12.4", 'source "$HOME/venv/bin/activate"'],
    environment={"HF_HUB_OFFLINE": "1", "HARNESS_CACHE": "/scratch/my cache"},
    scratch="$SLURM_TMPDIR/harness",
    container="apptainer exec --nv /images/torch.sif",
    srun_options=["--cpu-bind=none"],
    sbatch_options=["--mail-type=END", "--exclude=node7"],
)
SCRIPTS = {
    "workers": (WORKERS, LauncherConfig(name="slurm")),
    "workers_everything": (WORKERS, EVERYTHING),
    "run_multinode": (RUN, EVERYTHING),
    "workers_no_requeue": (WORKERS, LauncherConfig(name="slurm", requeue=False)),
}


def rendered(job: BatchJob, launcher: LauncherConfig) -> str:
    return render(job, launcher, TEMPLATE_TEXT, template_path=Path("slurm/job.sbatch"))


@pytest.mark.parametrize("name", SCRIPTS)
def test_the_script_is_this_text(name: str) -> None:
    text, golden = rendered(*SCRIPTS[name]), GOLDEN / f"{name}.sbatch"
    if os.environ.get("HARNESS_WRITE_GOLDEN"):
        golden.write_text(text)
    assert text == golden.read_text()


@pytest.mark.parametrize("name", SCRIPTS)
def test_bash_can_read_it(name: str) -> None:
    subprocess.run(["bash", "-n"], input=rendered(*SCRIPTS[name]), text=True, check=True)


def test_rendering_is_a_function_of_its_arguments(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    before = rendered(WORKERS, EVERYTHING)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HARNESS_RUNS", "/elsewhere")
    assert rendered(WORKERS, EVERYTHING) == before


def test_the_working_directorys_own_template_goes_first(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    assert batch_template(TEMPLATE) == shipped("slurm") / TEMPLATE
    own = tmp_path / "slurm" / TEMPLATE
    own.parent.mkdir()
    own.write_text("mine")
    assert batch_template(TEMPLATE) == own


SHAPES = [
    (TrainerConfig(accelerator="gpu"), {}, Shape(nodes=1, tasks_per_node=1, ranks_per_task=1, gpus_per_node=1)),
    (TrainerConfig(accelerator="cpu"), {}, Shape(nodes=1, tasks_per_node=1, ranks_per_task=1, gpus_per_node=0)),
    (TrainerConfig(accelerator="gpu", devices=8), {}, Shape(nodes=1, tasks_per_node=1, ranks_per_task=8, gpus_per_node=8)),
    (TrainerConfig(devices=8), {"tasks_per_node": 8}, Shape(nodes=1, tasks_per_node=8, ranks_per_task=1, gpus_per_node=8)),
    (TrainerConfig(devices=8, nodes=2), {}, Shape(nodes=2, tasks_per_node=8, ranks_per_task=1, gpus_per_node=8)),
    (TrainerConfig(devices=2), {"gpus_per_node": 0}, Shape(nodes=1, tasks_per_node=1, ranks_per_task=2, gpus_per_node=0)),
]


@pytest.mark.parametrize(("trainer", "keys", "shape"), SHAPES)
def test_what_a_worker_asks_for_follows_from_its_trainer(trainer: TrainerConfig, keys: dict[str, int], shape: Shape) -> None:
    assert shape_of(LauncherConfig(name="slurm", **keys), trainer) == shape  # type: ignore[arg-type]


def test_a_profile_of_conf_local_builds_on_the_shipped_ones(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    profile = tmp_path / "conf" / "local" / "launcher" / "here.yaml"
    profile.parent.mkdir(parents=True)
    profile.write_text("defaults: [slurm_8gpu, _self_]\naccount: me\nenvironment: {HARNESS_CACHE: /scratch/me}\n")
    monkeypatch.chdir(tmp_path)
    launcher = load_launcher(["launcher=here", "launcher.time=02:00:00"])
    assert (launcher.name, launcher.account, launcher.gpus_per_node, launcher.time) == ("slurm", "me", 8, "02:00:00")
    assert launcher.environment == {"HARNESS_CACHE": "/scratch/me"}


@pytest.mark.parametrize("name", ["directory", "script", "log"])
def test_a_path_of_two_lines_makes_no_script(name: str) -> None:
    path = Path("/home/me/a\n#SBATCH --wrap=touch")
    with pytest.raises(InputError, match="line break or control character"):
        rendered(dataclasses.replace(WORKERS, **{name: path}), EVERYTHING)


@pytest.mark.parametrize("text", ["{{ cycler.__init__.__globals__.os.popen('touch x') }}", "{{ 1 // 0 }}", "{% if %}", "{{ missing }}"])
def test_a_template_runs_no_code_and_ends_in_one_message(text: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"slurm/job\.sbatch: cannot be rendered"):
        render(WORKERS, EVERYTHING, text, template_path=Path("slurm/job.sbatch"))
    assert not (tmp_path / "x").exists()
