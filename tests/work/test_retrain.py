"""Which ingredients of a merge can be trained again, and what is said of the others."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from harness.config.errors import InputError
from harness.config.schema import IngredientConfig, MergeConfig
from harness.runs.confirmation_plan import ConfirmationPlan, confirmation_directory, write_plan
from harness.runs.directory import StudyDirectory
from harness.runs.files import write_yaml
from harness.work.confirm import refuse_retraining
from harness.work.retrain import fresh_seed, retrained_words


@pytest.fixture
def words(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """retrained_words of a study that merges these."""
    (tmp_path / "runs" / "docs").mkdir(parents=True)
    write_yaml(tmp_path / "runs" / "docs" / "config.yaml", {})
    (tmp_path / "runs" / "docs" / "checkpoints").mkdir()
    (tmp_path / "runs" / "docs" / "checkpoints" / "step-00000005.ckpt").touch()

    def of(space: dict[str, Any] | None = None, **paths: str) -> dict[str, str]:
        merge = MergeConfig(method="linear", ingredients={name: IngredientConfig(path=path) for name, path in paths.items()})
        monkeypatch.setattr("harness.work.retrain._merge_of", lambda study: merge)
        return retrained_words(SimpleNamespace(name="mixed", sweep={"space": space or {}}))  # type: ignore[arg-type]

    return of


def test_runs_are_trained_again_and_models_of_others_stay(words: Any, caplog: pytest.LogCaptureFixture) -> None:
    found = words(last="docs", early="docs@5", mean="run:docs", chat="org/chat")
    assert found == {"last": "{run}", "early": "{run}@5", "mean": "run:{run}"}
    assert "model.merge.ingredients.chat.path=org/chat: no run here, so it stays as it is with every seed" in caplog.text


def test_what_cannot_be_trained_again_is_refused(words: Any) -> None:
    with pytest.raises(InputError, match=r"ingredients\.soup\.path=study:cpt: stands for several runs; valid with --retrain: a run"):
        words(docs="docs", soup="study:cpt")
    with pytest.raises(InputError, match=r"docs\.path=docs@6: .* keeps no checkpoint of that step itself, so that.*; valid: docs@5$"):
        words(docs="docs@6")
    with pytest.raises(InputError, match=r"--retrain: space\.model\.merge\.ingredients\.docs\.path is searched; valid: one model for each"):
        words({"model.merge.ingredients.docs.path": {"choices": ["docs", "more"]}}, docs="docs")
    with pytest.raises(InputError, match="--retrain: no ingredient of mixed is a run here"):
        words(chat="org/chat")


@pytest.mark.parametrize("asked", [True, False])
@pytest.mark.parametrize(
    ("detach", "sweep", "said"),
    [
        (True, {}, "in this process before anything else; valid: without --detach"),
        (False, {"confirms_itself": True}, "mixed confirms its best itself, .*; valid: search.confirm=false"),
    ],
)
def test_where_ingredients_are_not_trained_again_that_is_said(
    asked: bool, detach: bool, sweep: dict[str, Any], said: str, tmp_path: Path
) -> None:
    """Whoever asks: this command, or the plan of an earlier one."""
    study: Any = SimpleNamespace(name="mixed", sweep=sweep, directory=StudyDirectory(tmp_path / "mixed"))
    refuse_retraining(study, asked=False, detach=detach)
    if not asked:
        place = confirmation_directory(study.directory)
        place.path.mkdir()
        write_plan(place, ConfirmationPlan("mixed", None, 1, [{"candidate": 0, "seed": 1}], retrained={"docs": "{run}"}))
    with pytest.raises(InputError, match=f"--retrain: .*{said}"):
        refuse_retraining(study, asked=asked, detach=detach)


def test_no_seed_is_used_twice() -> None:
    """Neither by two ingredients, nor by one that had it when it was made."""
    for own in ([1, 2], [1, 2, 3, 9], [7, 0], [5], [0, 2**32 - 1]):
        fresh = [fresh_seed(seed, own, place=place) for place in range(4) for seed in own]
        assert len({*own, *fresh}) == len(own) * 5
    assert [fresh_seed(5, [5, 5], place=place) for place in range(2)] == [6, 7], "what shared its seed shares the fresh ones"
