"""Sources that are made by a recipe when a run needs them."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
import yaml

from harness.config.errors import InputError
from harness.config.load import load
from harness.config.schema import DataConfig, SourceConfig, ValidationConfig
from harness.config.synth_path import made_sources
from harness.runs.files import read_yaml, write_yaml
from harness.runs.lifecycle import LiveResult
from harness.runs.result import Result, TeacherLedger, TeacherTokens
from harness.search.load_sweep import load_sweep
from harness.search.open_study import open_study
from harness.search.sweep import thaw
from harness.work.start_study import common_to_trials, read_sweep
from tests.support.command import Done, call_harness, run_harness
from tests.support.corpus import TinyText


@pytest.fixture
def made(tiny: list[str], tiny_text: TinyText, tiny_model: Path, tmp_path: Path) -> list[str]:
    """A run on forty continuations of the domain's documents."""
    source = "data.sources.domain"
    return [
        *tiny,
        f"{source}.path=synth:continuations",
        f"{source}.synth.seeds.docs.path={tiny_text.domain}",
        f"{source}.synth.teachers.teacher.model={tiny_model}",
        f"{source}.synth.rows=40",
        f"{source}.synth.steps.text.template='{{{{ docs.text[:20] }}}}'",
        f"{source}.synth.steps.text.max_new_tokens=8",
        f"data.cache_dir={tmp_path / 'cache'}",
    ]


def result(tmp_path: Path, name: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((tmp_path / name / "result.json").read_text())
    return found


def train(tmp_path: Path, name: str, words: list[str]) -> Done:
    done = run_harness("train", *words, "--dir", name, cwd=tmp_path)
    assert done.rc == 0, done
    return done


@pytest.mark.slow
def test_what_teachers_wrote_is_shared_and_its_cost_is_told(made: list[str], tmp_path: Path) -> None:
    train(tmp_path, "first", made)
    train(tmp_path, "again", made)
    train(tmp_path, "filtered", [*made, "data.sources.domain.synth.filters.characters.max=9000"])
    first, again, filtered = (result(tmp_path, name) for name in ("first", "again", "filtered"))
    spent = first["teachers"]["spent"]
    assert spent > 0
    assert first["teachers"]["shared"] == 0
    [pool] = first["teachers"]["pools"]
    assert again["teachers"] == filtered["teachers"] == {"spent": 0, "shared": spent, "pools": {pool: spent}}
    assert again["metrics"]["val/general/loss"] == first["metrics"]["val/general/loss"]
    assert again["fingerprints"]["data.sources.domain"] == first["fingerprints"]["data.sources.domain"]
    [folder] = (tmp_path / "cache" / "synth").iterdir()
    assert (folder.name, len(list((folder / "made").iterdir()))) == (pool, 2)
    compared = call_harness("compare", "first", "again", "--json", cwd=tmp_path)
    assert json.loads(compared.stdout)["teachers"] == {"spent": spent, "pools": 1, "saved": spent}
    assert "for 1 pool of texts, each counted once; without sharing" in call_harness("compare", "first", "again", cwd=tmp_path).stdout
    assert "synth:continuations" in (tmp_path / "first" / "config.yaml").read_text()


@pytest.mark.parametrize(
    ("word", "said"),
    [
        ("path=synth:nothing", "data.sources.domain: unknown recipe 'nothing'"),
        ("synth.steps.text.draws=0", "steps.text.draws=0: expected an integer >= 1"),
        ("synth.budget.tokens=5", "data.sources.domain.synth.budget.tokens=5: no room for the "),
        ("synth.budget.tokens=20", "(20 left, 1 of them held back for what killed workers lose); valid: a higher one"),
        ("synth.filters.words.min=900", "data.sources.domain: no row is left"),
    ],
)
def test_a_recipe_that_cannot_be_used_is_named_by_its_source(made: list[str], tmp_path: Path, word: str, said: str) -> None:
    from harness.work.made_data import with_made_data

    config = load([*made, f"data.sources.domain.{word}"]).config
    with pytest.raises(InputError) as error:
        with_made_data(config)
    assert said in str(error.value)


def test_trials_that_draw_more_have_more_rows(made: list[str]) -> None:
    from harness.work.made_data import with_made_data

    rows = []
    for draws in (1, 3):
        config = load([*made, "data.sources.domain.synth.rows=4", f"data.sources.domain.synth.steps.text.draws={draws}"]).config
        file = Path(str(with_made_data(config).config.data.sources["domain"].path))
        dropped = file.parents[1] / "rejected.jsonl"
        rows.append(sum(len(path.read_text().splitlines()) for path in (file, dropped)))
    assert rows == [4, 12]


def test_a_pool_of_one_draw_keeps_the_key_that_it_had_before_draws_were_of_it(tiny_text: TinyText) -> None:
    from harness.synthesis.plan import Plan
    from harness.synthesis.recipe import load_recipe
    from harness.synthesis.seeds import hash_of
    from harness.work.made_data import _pool_key

    def plan(draws: int) -> Plan:
        words = [f"seeds.docs.path={tiny_text.domain}", "teachers.teacher.model=m", "rows=4", f"steps.text.draws={draws}"]
        recipe = load_recipe("continuations", words)
        return Plan(recipe, recipe.read_seeds(), {"teacher": "t"})

    one, three = plan(1), plan(3)
    shard_rows = one.recipe.config.shard_rows
    assert _pool_key(one) == hash_of([one.keys, one.seeds.fingerprints(), 4, 0, shard_rows, {}])
    assert _pool_key(three) == hash_of([three.keys, three.seeds.fingerprints(), 4, 0, shard_rows, {}, {"text": 3}])


def test_a_pool_counts_once_whoever_reads_it() -> None:
    def read(**pools: int) -> Result:
        return Result(teachers=TeacherTokens(pools=pools))

    results = [read(a=100, b=7), read(a=100), read(), read(a=90)]  # the last one read it before a further score was paid
    assert TeacherLedger.of(results) == TeacherLedger(spent=107, pools=2, saved=190)
    assert TeacherLedger.of([read()]) == TeacherLedger(0, 0, 0)


def test_a_pool_that_is_paid_twice_is_not_less_than_unshared(made: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    from harness.work import made_data
    from harness.work.attempt import _with_data

    config, live = load(made).config, cast(LiveResult, SimpleNamespace(result=Result()))
    monkeypatch.setattr(made_data, "with_made_data", lambda config: made_data.Made(config, 60, {"a": 100}))
    for spent, shared in ((60, 40), (120, 0), (180, 0)):
        _with_data(config, live)
        assert (live.result.teachers.spent, live.result.teachers.shared) == (spent, shared)


def test_a_sweep_does_not_ask_teachers_for_what_no_trial_may_need(made: list[str], tiny_text: TinyText, tmp_path: Path) -> None:
    document = {
        "base": made,
        "objective": {"metric": "val/domain/loss"},
        "space": {"data.sources.domain.synth.steps.text.sampling.temperature": {"low": 0.5, "high": 1.0}},
        "budget": {"trials": 2},
    }
    (tmp_path / "question.yaml").write_text(yaml.safe_dump(document))
    alone = read_sweep("./question.yaml", [])
    assert common_to_trials(alone) == alone.config.base
    beside = read_sweep("./question.yaml", [f"data.sources.real.path={tiny_text.general}"])
    assert common_to_trials(beside) == [*beside.config.base, "data.sources.domain.weight=0"]
    real = f"data.sources.real.path={tiny_text.general}"
    # Without the made rows a run goes through the others more often than a trial does.
    scarce = read_sweep("./question.yaml", [real, "data.max_epochs=2", "data.sources.real.max_epochs=3"])
    unlimited = ["data.max_epochs=null", "data.sources.real.max_epochs=null"]
    assert common_to_trials(scarce) == [*scarce.config.base, "data.sources.domain.weight=0", *unlimited]
    replayed = read_sweep("./question.yaml", [real, "data.sources.general.replay=false", "data.sources.domain.replay=true"])
    assert common_to_trials(replayed) == replayed.config.base  # there is nothing else to replay


@pytest.mark.parametrize("edited", ["own.yaml", "own.jinja"])
def test_a_study_does_not_go_on_with_a_recipe_that_was_edited(
    made: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, edited: str
) -> None:
    monkeypatch.chdir(tmp_path)
    assert call_harness("init", "synth", "continuations", cwd=tmp_path).rc == 0
    [shipped] = (tmp_path / "synth").glob("*.yaml")
    document = yaml.safe_load(shipped.read_text())
    document["steps"]["text"]["template"] = "own.jinja"
    (tmp_path / "synth" / "own.yaml").write_text(yaml.safe_dump(document))
    (tmp_path / "synth" / "own.jinja").write_text("{{ docs.text[:20] }}")
    base = [word for word in made if ".path=synth:" not in word and "template=" not in word]
    sweep = {"base": [*base, "data.sources.domain.path=synth:own"], "objective": {"metric": "val/general/loss"}}
    (tmp_path / "s.yaml").write_text(yaml.safe_dump({**sweep, "space": {"optim.lr": {"low": 1e-4, "high": 1e-3}}, "budget": {"trials": 2}}))
    directory = open_study(load_sweep("s.yaml", []))
    assert thaw(directory.sweep).recipes
    changed = tmp_path / "synth" / edited
    changed.write_text(changed.read_text() + ("\nrows: 39\n" if edited == "own.yaml" else " Go on."))
    with pytest.raises(InputError, match="the recipe own changed since this study was launched"):
        thaw(directory.sweep)
    with pytest.raises(InputError, match=r"recipes\.own"):
        open_study(load_sweep("s.yaml", []))
    assert thaw(directory.sweep, goes_on=False).name == "s", "what it found can still be exported"
    frozen = read_yaml(directory.sweep)
    write_yaml(directory.sweep, {key: value for key, value in frozen.items() if key != "recipes"})
    assert thaw(directory.sweep).name == "s", "one of an older harness"
    assert open_study(load_sweep("s.yaml", [])) == directory


def test_a_source_of_weight_0_is_made_only_where_an_evaluation_set_is_held_out_of_it() -> None:
    def sources(weight: float, **sets: ValidationConfig) -> list[str]:
        both = {"made": SourceConfig(path="synth:continuations", weight=weight), "real": SourceConfig(path="real.jsonl")}
        return made_sources(DataConfig(sources=both, validation=sets))

    assert sources(3.0) == ["made"]
    assert sources(0.0) == []
    assert sources(0.0, held=ValidationConfig(source="made", share=0.1)) == ["made"]


def test_a_strangers_configuration_does_not_say_whom_to_ask(tmp_path: Path) -> None:
    from harness.config.trust import config_wishes

    def wishes(key: str, value: Any) -> list[str]:
        return list(config_wishes([(f"data.sources.x.{key}", value)], tmp_path / "config.yaml"))

    assert wishes("synth.teachers.big.endpoint", "http://elsewhere/v1")
    assert wishes("synth.teachers.big.key_env", "SECRET")
    assert wishes("synth.teachers.big.overrides", ["model.liger=true"])
    assert wishes("synth.seeds.docs.path", "/etc/passwd")
    assert wishes("path", "synth:../elsewhere.yaml")
    assert not wishes("path", "synth:answers")
    assert not wishes("synth.steps.answer.sampling.temperature", 0.7)
