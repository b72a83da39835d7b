"""What a merge has to beat, and whether a winner does, on documents that chose nothing."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pytest

from harness.config.merge_baselines import baseline_of, baseline_points
from harness.config.nested import set_value
from harness.config.schema import AdapterConfig, IngredientConfig, MergeConfig, TensorGroupConfig
from harness.config.validate import to_plain
from harness.report.comparison import compare
from harness.report.json_csv import to_json
from harness.report.page_head import best_card
from harness.report.text import metric_text
from harness.runs.directory import StudyDirectory
from harness.runs.files import write_yaml
from harness.runs.on_report import on_report, paired_lead, report_lines
from harness.runs.paired import ratio_interval
from harness.runs.record import StudyRecord, load_study
from harness.runs.result import Result, write_result
from harness.runs.trial import Trial, write_trial


def merge_of(*weights: float, method: Any = "task_arithmetic", scale: float = 1.0, **more: Any) -> MergeConfig:
    ingredients = {name: IngredientConfig(path=name, weight=weight) for name, weight in zip("abc", weights, strict=False)}
    return MergeConfig(method=method, base="base", ingredients=ingredients, scale=scale, **more)


def config_of(merge: MergeConfig) -> dict[str, Any]:
    return {"model": {"merge": to_plain(merge)}}


def steering_of(control: Any = None, draw: int = 0) -> dict[str, Any]:
    return {"adapter": to_plain(AdapterConfig(name="steering", pairs="pairs.jsonl", block=0, control=control, draw=draw))}


@pytest.mark.parametrize(
    ("merge", "found"),
    [
        (merge_of(1, 0, 0), ("ingredient", "a")),
        (merge_of(0, 2, scale=0.5), ("ingredient", "b")),
        (merge_of(0.5, 0, 0), None),
        (merge_of(0.5, 0.5, 0.5), ("scale", "0.5")),
        (merge_of(0.5, 0.5, scale=2), ("scale", "1")),
        (merge_of(0.25, 0.25, method="linear"), ("scale", "mean")),
        (merge_of(0, 3, method="linear"), ("ingredient", "b")),
        (merge_of(0.5, 0.4), None),
        (merge_of(1, 0, method="ties"), None),
        (merge_of(0, 0), None),
        (MergeConfig(), None),
    ],
)
def test_a_baseline_is_known_by_its_weights(merge: MergeConfig, found: tuple[str, str] | None) -> None:
    assert baseline_of(config_of(merge)) == found


def test_weights_of_groups_make_it_a_merge_of_its_own() -> None:
    merge = merge_of(1, 0, groups={"mlp": TensorGroupConfig(part="mlp")})
    merge.ingredients["a"].weights = {"mlp": 0.5}
    assert baseline_of(config_of(merge)) is None
    merge.ingredients["a"].weights = {"mlp": 1.0}
    assert baseline_of(config_of(merge)) == ("ingredient", "a")


def test_every_baseline_is_known_again() -> None:
    merge = merge_of(0.1, 0.2, 0.3)
    merge.ingredients["b"].weights = {"mlp": 0.5}
    found = {}
    for label, point in baseline_points(merge).items():
        config = config_of(merge)
        for key, value in point.items():
            set_value(config, key, value)
        found[label] = baseline_of(config)
    alone = {f"{name} alone": ("ingredient", name) for name in "abc"}
    assert found == {**alone, "their mean": ("scale", "0.3333"), **{f"scale {s:g}": ("scale", f"{s:g}") for s in (0.3, 0.5, 0.7, 1.0)}}
    without = MergeConfig(method="linear", ingredients=merge.ingredients)
    assert list(baseline_points(without)) == [*alone, "their mean"]
    assert {point["model.merge.method"] for point in baseline_points(without).values()} == {"linear"}


def test_a_ratio_is_of_sums_and_its_interval_covers_the_truth() -> None:
    one = [(3.0, 1.0), (1.0, 3.0)] * 10
    found = ratio_interval([one, [(4.0, 2.0)] * 5])
    assert found.mean == pytest.approx((1.0 + 2.0) / 2)
    assert found == ratio_interval([one, [(4.0, 2.0)] * 5]), "the same whoever asks"
    assert found.low < found.mean < found.high
    drawn = random.Random(1)
    covered = 0
    for trial in range(20):
        sizes = [drawn.randrange(5, 50) for _ in range(60)]
        interval = ratio_interval([[(size * 0.1 + drawn.gauss(0, 2), size) for size in sizes]], seed=trial)
        covered += interval.low <= 0.1 <= interval.high
    assert 16 <= covered <= 20


METRIC = "val/docs/loss"
TRIALS = {0: merge_of(1, 0), 1: merge_of(0, 1), 2: merge_of(0.5, 0.5), 3: merge_of(0.7, 0.7), 4: merge_of(0.4, 0.8)}


def write_study(root: Path, nats: dict[int, list[float]], *, chosen: dict[int, float], **sweep: Any) -> StudyRecord:
    """A study of TRIALS. nats: of each, of documents of ten tokens each that are kept for the report; chosen: the objectives."""
    study = StudyDirectory(root / "runs" / "study")
    frozen = {"objective": {"metric": METRIC, "direction": "minimize"}, "space": {}, "budget": {"trials": 5}, **sweep}
    write_yaml(study.sweep, {"config": config_of(TRIALS[0]), **frozen})
    for number, documents in nats.items():
        run = study.trial(number)
        run.path.mkdir(parents=True)
        write_yaml(run.config, config_of(TRIALS[number]))
        write_trial(run, Trial(number=number, params={}, tokens=1))
        reported = sum(documents) / (10 * len(documents))
        write_result(
            run, Result(state="complete", objective=chosen[number], metrics={METRIC: chosen[number], "val/docs/report/loss": reported})
        )
        run.metrics.append({"step": 0, METRIC: chosen[number], "val/docs/report/loss": reported})
        run.documents.append(0, {"val/docs/report/loss": {f"{index:x}": (value, 10.0) for index, value in enumerate(documents)}})
    return load_study(study)


CHOSEN = {0: 2.5, 1: 2.4, 2: 2.3, 3: 2.2, 4: 2.1}
NOISE = [1.0, -1.0, 0.5, -0.5, 0.2, -0.2, 2.0, -2.0]


def verdict(nats: dict[int, list[float]], root: Path, **given: Any) -> tuple[str, StudyRecord]:
    study = write_study(root, nats, **{"chosen": CHOSEN, **given})
    found = on_report(study)
    assert found is not None
    return "\n".join(report_lines(found, metric_text)), study


def test_a_lead_beyond_noise_and_one_within(tmp_path: Path) -> None:
    """Trial 4 wins: far from either ingredient, and on average no better than scale 0.7, whatever the document."""
    table = {0: [25.0] * 8, 1: [24.0] * 8, 2: [23.0] * 8, 3: [21.5 + noise for noise in NOISE], 4: [21.5] * 8}
    words, study = verdict(table, tmp_path)
    assert words.splitlines() == [
        "val/docs/report/loss 2.1500 on documents that chose nothing (2.1000 on those that it was chosen by)",
        "better than the best ingredient alone, b (trial 1, 2.4000) by 0.2500 (from 0.2500 to 0.2500, bootstrap over documents)",
        *[
            line
            for line in words.splitlines()
            if line.startswith("within noise: no better than the best single scale, 0.7 (trial 3, 2.1500)")
        ],
    ]
    assert len(words.splitlines()) == 3
    compared = compare([study], [])
    document = to_json(compared)["report"]
    assert (document["value"], document["chosen"]) == (2.15, 2.1)
    assert [(rival["kind"], rival["number"], rival["within_noise"]) for rival in document["rivals"]] == [
        ("ingredient", 1, False),
        ("scale", 3, True),
    ]
    assert "no better than the best single scale, 0.7" in best_card(compared)


def test_a_choice_that_was_luck_and_a_winner_that_is_no_merge(tmp_path: Path) -> None:
    worse, _ = verdict({0: [25.0] * 8, 1: [20.0] * 8, 4: [24.0] * 8}, tmp_path / "luck")
    assert "worse than the best ingredient alone, b (trial 1, 2.0000) by 0.4000" in worse
    alone, _ = verdict({0: [20.0] * 8, 2: [24.0] * 8}, tmp_path / "alone", chosen={0: 2.0, 2: 2.5})
    assert alone.splitlines()[1] == "the winner is a alone: no merge is better"
    assert "better than the best single scale, 0.5 (trial 2, 2.4000) by 0.4000" in alone


def test_without_the_same_documents_nothing_is_said_of_a_lead(tmp_path: Path) -> None:
    words, study = verdict({1: [20.0] * 7, 4: [24.0] * 8}, tmp_path)
    assert "how far it leads the best ingredient alone, b (trial 1, 2.0000) is not known" in words
    assert paired_lead(study.runs[0].directory, study.runs[0].directory, "val/docs/loss") is None


def test_a_study_without_a_report_split_has_no_verdict(tmp_path: Path) -> None:
    study = write_study(
        tmp_path, {0: [25.0] * 8, 4: [24.0] * 8}, chosen=CHOSEN, objective={"metric": "train/loss", "direction": "minimize"}
    )
    assert on_report(study) is None
    assert to_json(compare([study], []))["report"] is None


def verdict_of(root: Path, of: str, configs: list[dict[str, Any]], losses: list[list[float]]) -> list[str]:
    """On trials of these configurations; losses: OF/loss of each, by document that is kept for the report. The last one is chosen."""
    metric, there, study = f"{of}/loss", f"{of}/report/loss", StudyDirectory(root / "runs" / "study")
    write_yaml(study.sweep, {"config": {}, "objective": {"metric": metric, "direction": "minimize"}, "space": {}, "budget": {"trials": 9}})
    for number, (config, documents) in enumerate(zip(configs, losses, strict=True)):
        run, chosen, mean = study.trial(number), 0.6 - 0.01 * number, sum(documents) / len(documents)
        run.path.mkdir(parents=True)
        write_yaml(run.config, config)
        write_trial(run, Trial(number=number, params={}, tokens=1))
        write_result(run, Result(state="complete", objective=chosen, metrics={metric: chosen, there: mean}))
        run.documents.append(0, {there: {f"{document:x}": (loss, 1.0) for document, loss in enumerate(documents)}})
    found = on_report(load_study(study))
    assert found is not None
    return report_lines(found, metric_text)[1:]


def preference_verdict(root: Path, objectives: list[str], losses: list[list[float]]) -> list[str]:
    return verdict_of(root, "preference/prefs", [{"objective": {"name": objective}} for objective in objectives], losses)


def test_a_loss_of_pairs_has_to_beat_fine_tuning_on_the_chosen_answers(tmp_path: Path) -> None:
    worse, sft = [0.7] * 8, [0.6 + noise / 100 for noise in NOISE]
    [line] = preference_verdict(tmp_path / "near", ["sft", "sft", "preference"], [worse, sft, [0.599] * 8])
    assert line.startswith("within noise: no better than fine-tuning on the chosen answers alone, objective=sft (trial 1, ")
    [line] = preference_verdict(tmp_path / "far", ["sft", "sft", "preference"], [worse, sft, [0.5] * 8])
    assert line.startswith("better than fine-tuning on the chosen answers alone, objective=sft (trial 1, ")
    [line] = preference_verdict(tmp_path / "won", ["preference", "sft"], [worse, sft])
    assert line == "the winner is fine-tuning on the chosen answers alone: no loss of preferences is better"
    assert preference_verdict(tmp_path / "alone", ["sft", "sft"], [worse, sft]) == []
    assert preference_verdict(tmp_path / "none", ["preference", "preference"], [worse, sft]) == []


def test_a_recipe_has_to_beat_real_text_alone(tmp_path: Path) -> None:
    def sources(**weights: float) -> dict[str, Any]:
        paths = {"made": "synth:continuations", "real": "real.jsonl"}
        return {"data": {"sources": {name: {"path": paths[name], "weight": weight} for name, weight in weights.items()}}}

    real, mixed = sources(made=0.0, real=1.0), sources(made=3.0, real=1.0)
    worse, alone = [0.7] * 8, [0.6 + noise / 100 for noise in NOISE]
    [line] = verdict_of(tmp_path / "near", "val/real", [real, real, mixed], [worse, alone, [0.599] * 8])
    assert line.startswith("within noise: no better than real text alone (trial 1, ")
    [line] = verdict_of(tmp_path / "far", "val/real", [real, sources(made=1.0)], [alone, [0.5] * 8])
    assert line.startswith("better than real text alone (trial 0, ")
    [line] = verdict_of(tmp_path / "won", "val/real", [mixed, real], [worse, alone])
    assert line == "the winner is real text alone: no recipe is better"
    assert verdict_of(tmp_path / "never", "val/real", [real, real], [worse, alone]) == []


STEERING = {0: steering_of("nothing"), 1: steering_of("prompt"), 2: steering_of(), **{3 + d: steering_of("random", d) for d in range(3)}}


def write_steering(root: Path, margins: dict[int, float], *, feasible: dict[int, bool] | None = None) -> StudyRecord:
    """A study whose trials are STEERING. margins: of each, of every pair that is kept for the report; half of that on those that choose."""
    study, metric, there = StudyDirectory(root / "runs" / "steer"), "contrast/trait/margin", "contrast/trait/report/margin"
    frozen = {"objective": {"metric": metric, "direction": "maximize"}, "space": {}, "budget": {"trials": len(margins)}}
    write_yaml(study.sweep, {"config": steering_of(), **frozen})
    for number, margin in margins.items():
        run = study.trial(number)
        run.path.mkdir(parents=True)
        write_yaml(run.config, STEERING[number])
        write_trial(run, Trial(number=number, params={}, tokens=1))
        metrics = {metric: margin / 2, there: margin}
        kept = (feasible or {}).get(number)
        write_result(run, Result(state="complete", objective=margin / 2, metrics=metrics, feasible=kept))
        run.metrics.append({"step": 0, **metrics})
        run.documents.append(
            0, {there: {f"{index:x}": (margin + 0.1 * noise, 1.0) for index, noise in enumerate(number * n for n in NOISE)}}
        )
    return load_study(study)


def steering_verdict(root: Path, margins: dict[int, float], **given: Any) -> list[str]:
    found = on_report(write_steering(root, margins, **given))
    assert found is not None
    return report_lines(found, metric_text)


def test_steering_is_held_against_nothing_the_prompt_and_the_best_random_direction(tmp_path: Path) -> None:
    lines = steering_verdict(tmp_path, {0: 0.1, 1: 0.95, 2: 1.0, 3: 0.2, 4: 0.4, 5: 0.3})
    assert lines[1] == "steering moves 0% of these documents the wrong way"
    assert lines[2].startswith("better than doing nothing (trial 0, 0.1000) by 0.9000 (from ")
    assert lines[3].startswith("within noise: no better than the prompt (trial 1, 0.9500); it leads by 0.0500 (from ")
    assert lines[4].startswith("better than the best random direction, draw 1 (trial 4, 0.4000) by 0.6000 (from ")
    assert len(lines) == 5


def test_pairs_that_steering_moves_the_wrong_way_are_counted(tmp_path: Path) -> None:
    study = write_steering(tmp_path, {0: 0.1, 2: 0.2})
    found = on_report(study)
    assert found is not None
    # Margins of nothing are 0.1 each, those of steering 0.2 + 0.2 noise.
    wrong = sum(0.2 + 0.2 * noise < 0.1 for noise in NOISE) / len(NOISE)
    assert 0 < wrong < 1
    assert found.anti_steered == found.to_json()["anti_steered"] == wrong
    assert report_lines(found, metric_text)[1] == f"steering moves {wrong:.0%} of these documents the wrong way"


def test_a_random_direction_counts_though_it_broke_a_bound(tmp_path: Path) -> None:
    lines = steering_verdict(tmp_path, {0: 0.1, 2: 1.0, 3: 0.2, 4: 2.0}, feasible={4: False})
    assert lines[3].startswith("worse than the best random direction, draw 1 (trial 4, 2.0000) by 1.0000")


@pytest.mark.parametrize(
    ("margins", "said"),
    [
        ({0: 0.5, 1: 0.1, 2: 0.4}, "the winner is doing nothing: no steering is better"),
        ({0: 0.1, 1: 0.5, 2: 0.4}, "the winner is the prompt: no steering is better"),
        ({0: 0.1, 2: 0.4, 5: 0.5}, "the winner is a random direction, draw 2: no direction that was found is better than chance"),
    ],
)
def test_a_winner_that_does_not_steer_is_called_so(tmp_path: Path, margins: dict[int, float], said: str) -> None:
    assert steering_verdict(tmp_path, margins)[1] == said
