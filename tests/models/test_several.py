"""Ingredients that one word stands for several of: which models these are, and what their mean is."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch

from harness.config.errors import InputError
from harness.config.schema import IngredientConfig, MergeConfig
from harness.models.checkpoint_files import checkpoints, trunk_states
from harness.models.merged import frame_folder, merge_fingerprint, merge_plan
from harness.models.several import models_of, one_by_one
from harness.runs.directory import StudyDirectory
from harness.runs.record import load_study
from harness.runs.result import Result, Tokens, write_result
from harness.runs.trial import Trial, write_trial
from harness.runs.trunks import TrunkInfo, TrunkStore, trunk_key
from tests.merging.models import merged_values
from tests.models.test_merged import configuration, models, trained  # noqa: F401
from tests.report.synthetic_study import write_study
from tests.support.corpus import TinyText


def soup(path: str, *, method: str = "linear", **given: int) -> MergeConfig:
    return MergeConfig(method=method, ingredients={"soup": IngredientConfig(path=path, weight=0.5, **given)})  # type: ignore[arg-type]


def test_a_runs_last_checkpoints_are_their_mean(tiny_text: TinyText, models: Path, tmp_path: Path) -> None:  # noqa: F811
    kept = ["trainer.max_steps=4", "trainer.checkpoint_every_steps=1", "trainer.keep_checkpoints=3"]
    trained(tiny_text, models, tmp_path / "runs" / "trunk", *kept)
    merge = one_by_one(soup("run:trunk", last=2))
    assert {name: (one.path, one.weight) for name, one in merge.ingredients.items()} == {
        f"soup-{step}": (f"trunk@{step}", 0.25) for step in (3, 4)
    }
    parts = [merged_values(merge_plan(soup(f"trunk@{step}"), seed=0)) for step in (3, 4)]
    mean = merged_values(merge_plan(soup("run:trunk", last=2), seed=0))
    assert not torch.equal(*(torch.from_numpy(part["model.embed_tokens.weight"]) for part in parts))
    for name, value in mean.items():
        torch.testing.assert_close(torch.from_numpy(value), torch.from_numpy((parts[0][name] + parts[1][name]) / 2), rtol=0, atol=1e-7)
    assert merge_fingerprint(soup("run:trunk", last=2)) == merge_fingerprint(soup("run:trunk", last=2))
    assert len({merge_fingerprint(soup(word)) for word in ("run:trunk", "trunk", "trunk@3", "trunk@2")}) == 4
    assert frame_folder(configuration(models, soup("run:trunk")).model) == ("model.merge.ingredients.soup.path", str(models / "base"))
    with pytest.raises(InputError, match=r"soup\.last=4: .*has those of steps 2, 3, 4 \(trainer\.keep_checkpoints and"):
        one_by_one(soup("run:trunk", last=4))
    with pytest.raises(InputError, match=r"trunk@1: .*no checkpoint of that step; valid: 2, 3, 4"):
        merge_plan(soup("trunk@1"), seed=0)
    with pytest.raises(InputError, match="multislerp takes at least 2 models, and run:trunk stands for 1"):
        one_by_one(soup("run:trunk", last=1, method="multislerp"))


def test_the_states_of_a_trials_trunk_are_those_on_its_path(tiny_text: TinyText, models: Path, tmp_path: Path) -> None:  # noqa: F811
    kept = ["trainer.max_steps=4", "trainer.checkpoint_every_steps=1", "trainer.keep_checkpoints=4"]
    run = trained(tiny_text, models, tmp_path / "runs" / "cpt" / "trials" / "0000", *kept)
    with pytest.raises(InputError, match=r"soup\.path=trunk:.*has no state of a trunk"):
        models_of(IngredientConfig(path=f"trunk:{run.path}"), key="soup")
    write_trial(run, Trial(number=0, params={}, tokens=0))
    store = TrunkStore(tmp_path / "runs" / "cpt" / "trunks")
    store.directory.mkdir()
    rows = run.metrics.rows()
    for step, file in list(checkpoints(run.checkpoints).items())[:3]:
        info = TrunkInfo(step=step, tokens=step, run="cpt/0007")
        store.store(trunk_key(step, "own"), file, [row for row in rows if row["step"] <= step], info)
        other = [{**row, "train/loss": 9.0} for row in rows if row["step"] <= step]
        store.store(trunk_key(step, "another"), file, other, info)
    shutil.rmtree(run.checkpoints)
    found = models_of(IngredientConfig(path="trunk:cpt/0", last=2), key="soup")
    assert found == {f"-{step}": f"cpt/0@{step}" for step in (2, 3)}
    assert {path.parent.name for path in trunk_states(run).values()} == {trunk_key(step, "own") for step in (1, 2, 3)}
    assert len({merge_fingerprint(soup(word)) for word in ("trunk:cpt/0", "cpt/0@2", "cpt/0@3")}) == 3
    with pytest.raises(InputError, match=r"soup\.last=4: .*has those of steps 1, 2, 3 \(search\.trunks"):
        models_of(IngredientConfig(path="trunk:cpt/0", last=4), key="soup")


def test_a_state_between_two_logged_steps_is_on_the_path_of_those_who_took_it_over(tmp_path: Path) -> None:
    """trainer.log_every_steps=10: no row tells of steps 86 and 93. Trial 1 left the path of trial 0 at step 86."""
    study = StudyDirectory(tmp_path / "runs" / "cpt")
    store, file = TrunkStore(study.trunks), tmp_path / "state.ckpt"
    study.path.mkdir(parents=True)
    file.touch()
    for number, result in ((0, Result()), (1, Result(shared_from="cpt/0000", tokens=Tokens(shared=860)))):
        run = study.trial(number)
        run.path.mkdir(parents=True)
        write_trial(run, Trial(number=number, params={}, tokens=0))
        write_result(run, result)
        for step in (80, 90):
            run.metrics.append({"step": step, "train/loss": 1.0 + number * (step > 86)})
    for step, trained_by in ((86, 0), (93, 0), (97, 1)):
        rows = [row for row in study.trial(trained_by).metrics.rows() if row["step"] <= step]
        store.store(trunk_key(step, "x"), file, rows, TrunkInfo(step=step, tokens=10 * step, run=f"cpt/{trained_by:04}"))
    assert [list(trunk_states(study.trial(number))) for number in (0, 1)] == [[86, 93], [86, 97]]


def test_a_studys_best_trials_by_their_rank(tmp_path: Path) -> None:
    study = load_study(write_study(tmp_path / "runs", states={5: "failed"}))
    found = models_of(IngredientConfig(path=f"study:{study.name}", top=3), key="soup")
    assert found == {f"-{run.number:04}": f"{study.name}/{run.number}" for run in study.ranked[:3]}
    assert len(models_of(IngredientConfig(path=f"study:{study.name}"), key="soup")) == 1
    with pytest.raises(InputError, match=r"soup\.top=99: .* complete trials within its constraints; valid: at most \d+"):
        models_of(IngredientConfig(path=f"study:{study.name}", top=99), key="soup")
    with pytest.raises(InputError, match=rf"it has no confirmed winner; first: harness confirm {study.name}"):
        models_of(IngredientConfig(path=f"confirm:{study.name}"), key="soup")
    with pytest.raises(InputError, match="unknown study 'nowhere'"):
        models_of(IngredientConfig(path="study:nowhere"), key="soup")
