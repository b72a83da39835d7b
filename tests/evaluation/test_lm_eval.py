"""Tasks of lm_eval: the same figures as lm_eval's own, and nothing of a stranger's file is run."""

from __future__ import annotations

import copy
import importlib.util
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from harness.config.checks.data import data_problems
from harness.config.errors import InputError
from harness.config.load import load
from harness.config.remote_code import TRUST_VARIABLE, trust
from harness.config.schema import Config, LmEvalConfig
from harness.evaluation.kinds import higher_is_better, logged_metrics, main_metrics, metric_of
from harness.evaluation.lm_eval.lm_eval_set import LmEvalSet
from harness.evaluation.lm_eval.loaded import values_of
from harness.evaluation.lm_eval.read_tasks import read_tasks
from harness.evaluation.lm_eval.task_files import GroupFile, TaskFile, leaves
from harness.models.adapters.build import build_adapted_model
from harness.models.tokenizer import load_tokenizer
from harness.training.evaluator import Evaluator
from harness.training.inputs import load_data
from tests.support.corpus import GENERAL_WORDS, TinyText, tiny_model

if importlib.util.find_spec("lm_eval") is None and not os.environ.get("CI"):
    pytest.skip("lm_eval is not installed", allow_module_level=True)

CONTEXT = 96
DOCUMENTS = [
    {"q": " ".join(GENERAL_WORDS[at : at + 3]), "choices": [GENERAL_WORDS[(at * 5 + k) % 12] for k in range(3)], "answer": at % 3}
    for at in range(8)
]
QUIZ = {
    "task": "quiz",
    "dataset_path": "json",
    "test_split": "test",
    "output_type": "multiple_choice",
    "doc_to_text": "{{q}}",
    "doc_to_choice": "choices",
    "doc_to_target": "answer",
    "metric_list": [
        {"metric": "acc", "aggregation": "mean", "higher_is_better": True},
        {"metric": "acc_norm", "aggregation": "mean", "higher_is_better": True},
        {"metric": "brier_score", "aggregation": "brier_score", "higher_is_better": False},
    ],
}
CLOZE = {
    **{name: value for name, value in QUIZ.items() if name not in ("doc_to_choice", "metric_list")},
    "task": "cloze",
    "output_type": "loglikelihood",
    # White space at the end, which belongs to what follows.
    "doc_to_text": "{{q}} ",
    "doc_to_target": "{{choices[0]}}",
    "num_fewshot": 1,
    "fewshot_split": "test",
}
PAGES = {**CLOZE, "task": "pages", "output_type": "loglikelihood_rolling", "doc_to_text": "", "doc_to_target": "{{(q + ' ') * 12}}"}
PAGES.pop("num_fewshot")
SUMS = {
    **CLOZE,
    "task": "sums",
    "output_type": "generate_until",
    "doc_to_text": "{{q}}:",
    "doc_to_target": "{{choices[1]}}",
    "generation_kwargs": {"until": ["</s>", "t"], "do_sample": False, "max_gen_toks": 8},
    "metric_list": [{"metric": "exact_match", "aggregation": "mean", "higher_is_better": True}],
    "filter_list": [
        {"name": "strict", "filter": [{"function": "take_first"}]},
        {"name": "letter", "filter": [{"function": "regex", "regex_pattern": "([a-z])"}, {"function": "take_first"}]},
    ],
}
EVERYTHING = {
    "group": "everything",
    "task": ["quiz.yaml", "cloze.yaml"],
    "aggregate_metric_list": [{"metric": "acc", "aggregation": "mean", "weight_by_size": True}],
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Task files beside their documents."""
    place = tmp_path_factory.mktemp("tasks")
    data = place / "documents.jsonl"
    data.write_text("".join(json.dumps(one) + "\n" for one in DOCUMENTS))
    for task in (QUIZ, CLOZE, PAGES, SUMS):
        values = {**task, "dataset_kwargs": {"data_files": {"test": str(data)}}}
        (place / f"{task['task']}.yaml").write_text(yaml.safe_dump(values))
    (place / "everything.yaml").write_text(yaml.safe_dump(EVERYTHING))
    return place


@pytest.fixture(autouse=True)
def _in_the_folder(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What lies in the working directory is its user's own."""
    monkeypatch.chdir(folder)


@pytest.fixture(scope="module")
def model(tiny_text: TinyText, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_model(tmp_path_factory.mktemp("model"), tiny_text.tokenizer, context=CONTEXT)


@pytest.fixture(scope="module")
def base(model: Path, folder: Path, session_cache: Path) -> Config:
    """Evaluates on a task, and trains nothing."""
    own = [f"model.path={model}", f"data.context_length={CONTEXT}", "trainer.threads=1", f"data.cache_dir={session_cache}"]
    return load(["experiment=evaluate", "trainer=cpu", *own, f"data.lm_eval.own.tasks=[{folder / 'quiz.yaml'}]"]).config


@pytest.fixture(scope="module")
def tokenizer(base: Config) -> Any:
    return load_tokenizer(base)


Configure = Callable[..., Config]
Build = Callable[..., LmEvalSet]


@pytest.fixture
def configured(base: Config, folder: Path) -> Configure:
    """The same with other tasks, and keys of data.lm_eval.own."""

    def make(*tasks: str | Path, **keys: Any) -> Config:
        config = copy.deepcopy(base)
        named = [str(folder / task) if str(task).endswith(".yaml") else str(task) for task in tasks]
        config.data.lm_eval = {"own": LmEvalConfig(tasks=named, **keys)}
        return config

    return make


@pytest.fixture
def built(configured: Configure, tokenizer: Any) -> Build:
    """The set of these tasks."""

    def make(*tasks: str | Path, max_evaluation_tokens: int | None = None, chat_template: str | None = None, **keys: Any) -> LmEvalSet:
        config = configured(*tasks, **keys)
        config.data.max_evaluation_tokens, config.data.chat_template = max_evaluation_tokens, chat_template
        (found,) = load_data(config, tokenizer).evaluation
        assert isinstance(found, LmEvalSet)
        return found

    return make


@pytest.mark.slow
def test_its_figures_are_those_of_lm_eval_itself(configured: Configure, tokenizer: Any, model: Path, folder: Path) -> None:
    from lm_eval import simple_evaluate
    from lm_eval.models.huggingface import HFLM
    from lm_eval.tasks import TaskManager

    config = configured("everything.yaml", "pages.yaml", "sums.yaml", limit=6)
    evaluator = Evaluator(config, load_data(config, tokenizer).evaluation, tokenizer=tokenizer)
    ours = evaluator.evaluate(build_adapted_model(config, tokenizer).model, step=0)
    texts = evaluator.texts

    tasks: list[Any] = [str(folder / f"{name}.yaml") for name in ("quiz", "cloze", "pages", "sums")]
    judge = HFLM(pretrained=str(model), max_length=CONTEXT, batch_size=4, device="cpu")
    theirs = simple_evaluate(
        model=judge, tasks=tasks, limit=6, bootstrap_iters=0, task_manager=TaskManager(include_defaults=False), log_samples=True
    )
    assert theirs is not None
    compared = 0
    for task, found in theirs["results"].items():
        for key, value in found.items():
            metric, _, filter_name = key.partition(",")
            if filter_name and not metric.endswith("_stderr"):
                name = f"lm_eval/own/{task}/{metric}" + ("" if filter_name == "none" else f"/{filter_name}")
                assert ours[name] == pytest.approx(value, rel=1e-4), name
                compared += 1
    assert compared == 3 + 2 + 3 + 2
    expected = [sample["resps"][0][0] for sample in theirs["samples"]["sums"] if sample["filter"] == "strict"]
    assert [text.text for text in texts] == expected
    assert {(text.set, text.draw) for text in texts} == {("lm_eval/own", 0)}
    assert ours["lm_eval/own/everything/acc"] == pytest.approx((ours["lm_eval/own/quiz/acc"] + ours["lm_eval/own/cloze/acc"]) / 2)
    assert {name for name in ours if name != "evaluation_seconds"} == set(logged_metrics(config.data))


def test_directions_are_the_tasks_own(configured: Configure, tmp_path: Path) -> None:
    own = {**QUIZ, "metric_list": [{"metric": "acc", "higher_is_better": False}, {"metric": "mine", "higher_is_better": False}]}
    path = tmp_path / "own.yaml"
    path.write_text(yaml.safe_dump(own))
    data = configured(path, "sums.yaml").data
    assert logged_metrics(data) == [
        *("lm_eval/own/quiz/acc", "lm_eval/own/quiz/mine"),
        *("lm_eval/own/sums/exact_match/strict", "lm_eval/own/sums/exact_match/letter"),
    ]
    assert not higher_is_better("lm_eval/own/quiz/acc", data)
    assert not higher_is_better("lm_eval/own/quiz/mine", data)
    assert higher_is_better("lm_eval/own/quiz/acc")
    assert higher_is_better("lm_eval/own/sums/exact_match/letter", data)
    assert not higher_is_better("lm_eval/own/text/word_perplexity")
    metric = metric_of("lm_eval/own/sums/exact_match/letter")
    assert metric is not None
    assert (metric.unit, metric.is_main) == ("share", True)
    assert main_metrics(["lm_eval/own/quiz/acc_norm", "lm_eval/own/quiz/acc", "lm_eval/own/pages/bits_per_byte"]) == [
        "lm_eval/own/quiz/acc"
    ]


def test_its_cost_is_known_before_and_bounded(built: Build) -> None:
    whole = built("quiz.yaml", "sums.yaml")
    summary = whole.summary()
    assert (summary["tasks"], summary["documents"], summary["requests"]) == (2, 16, 8 * 3 + 8)
    assert summary["new_tokens"] == 8 * 8
    assert summary["tokens"] == whole.tokens_read > 0
    assert whole.writes
    assert whole.every_evaluations is None
    assert built("quiz.yaml", limit=3).summary()["documents"] == 3
    bound = whole.tokens_read // 2
    cut = built("quiz.yaml", "sums.yaml", max_evaluation_tokens=bound)
    assert 0 < cut.tokens_read <= bound
    assert 2 <= cut.summary()["documents"] < 16
    with pytest.raises(InputError, match=r"max_evaluation_tokens=5: less than one document of each task of data\.lm_eval\.own"):
        built("quiz.yaml", max_evaluation_tokens=5)
    prints = {
        built(*tasks, **keys).fingerprint
        for tasks, keys in [
            (("quiz.yaml",), {}),
            (("cloze.yaml",), {}),
            (("quiz.yaml",), {"limit": 3}),
            (("cloze.yaml",), {"num_fewshot": 2}),
            (("sums.yaml",), {"max_new_tokens": 4}),
        ]
    }
    assert len(prints) == 5
    assert built("quiz.yaml").fingerprint == built("quiz.yaml").fingerprint


def test_conversations_are_rendered_by_the_chat_template(built: Build) -> None:
    asked = built("sums.yaml", chat=True, num_fewshot=0, limit=2, chat_template="alpaca")
    text = next(one.prompt.text for one in asked._written)
    assert f"### Instruction:\n{DOCUMENTS[0]['q']}:" in text
    assert text.endswith("### Response:\n")


# What is a stranger's.


@pytest.fixture
def theirs(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Path]:
    """Writes a task file of somebody else's, beside code that leaves a file behind."""
    monkeypatch.delenv(TRUST_VARIABLE, raising=False)
    place = tmp_path / "theirs"
    place.mkdir()
    (place / "attack.py").write_text(
        f"from pathlib import Path\nPath({str(tmp_path / 'canary')!r}).touch()\n\ndef docs(rows):\n    return rows\n"
    )

    def write(text: str = "", **values: Any) -> Path:
        path = place / "task.yaml"
        kept = {**QUIZ, "dataset_kwargs": {"data_files": {"test": str(folder / "documents.jsonl")}}, **values}
        path.write_text(yaml.safe_dump(kept) + text)
        return path

    return write


CODE = "process_docs: !function attack.docs\n"


@pytest.mark.parametrize(
    ("text", "values", "said"),
    [
        (
            CODE,
            {},
            r"names code to be run \(process_docs: !function attack\.docs\), and nobody asked for it\..*--trust-remote-code .*task\.yaml",
        ),
        (
            "filter_list:\n- {name: x, filter: [{function: custom, filter_fn: !function attack.docs}]}\n",
            {},
            "filter_list: !function attack.docs",
        ),
        ("", {"metric_list": [{"metric": "of_the_hub"}]}, "the metric of_the_hub, of the hub"),
        ("", {"metric_list": [{"metric": "acc", "hf_evaluate": True}]}, "the metric acc, of the hub"),
        ("", {"dataset_path": "pandas"}, "dataset_path: pandas"),
        ("", {"dataset_path": "./attack.py"}, "dataset_path: ./attack.py"),
        ("", {"unsafe_code": True}, "runs what the model writes"),
        ("process_docs: !!python/name:os.system\n", {}, "cannot be read as YAML"),
        ("", {"doc_to_text": "{{ ''.__class__.__mro__[1].__subclasses__() }}"}, "SecurityError"),
        ("", {"doc_to_text": "{{ nothing }}"}, "UndefinedError: 'nothing' is undefined"),
        ("", {"doc_to_text": "{{ 'a' * 99999999999 }}"}, "MemoryError"),
        ("process_results: null\n", {"metric_list": [{"metric": "./attack"}]}, "the metric ./attack, of the hub"),
        ("", {"dataset_path": "webdataset"}, "dataset_path: webdataset"),
        ("", {"task": "../x"}, r"task: '\.\./x'; valid: a name"),
        ("", {"include": "/etc/hostname.yaml"}, "no such file"),
        ("", {"output_type": "guess"}, "Got invalid output_type 'guess'"),
    ],
)
def test_a_strangers_task_file_runs_nothing_and_is_refused_in_one_message(
    built: Build, theirs: Callable[..., Path], tmp_path: Path, text: str, values: dict[str, Any], said: str
) -> None:
    path = theirs(text, **values)
    with pytest.raises(InputError, match=said) as caught:
        built(path)
    assert len(str(caught.value).splitlines()) == 1
    assert not (tmp_path / "canary").exists()


def test_its_code_is_run_where_its_user_names_it(built: Build, theirs: Callable[..., Path], tmp_path: Path) -> None:
    path = theirs(CODE)
    trust([str(path)])
    assert built(path).summary()["documents"] == 8
    assert (tmp_path / "canary").exists()


def test_code_is_trusted_by_the_file_in_which_it_stands(built: Build, theirs: Callable[..., Path], tmp_path: Path, folder: Path) -> None:
    changing = theirs().with_name("group.yaml")
    changing.write_text(f"group: g\ntask:\n- task: {folder / 'quiz.yaml'}\n  {CODE}")
    trust([str(folder / "quiz.yaml")])
    with pytest.raises(InputError, match=r"/group\.yaml names code to be run \(process_docs: !function attack\.docs\)"):
        built(changing)
    assert not (tmp_path / "canary").exists()


@pytest.mark.parametrize(
    ("given", "said"),
    [({}, r"dataset_kwargs: .*documents\.jsonl \(outside"), ({"dataset_kwargs": {"data_dir": ".."}}, r"dataset_kwargs: \.\. \(outside")],
)
def test_a_strangers_task_file_reads_no_files_elsewhere(
    built: Build, theirs: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, given: dict[str, Any], said: str
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match=rf"a task file that may be a stranger's.*{said}"):
        built(theirs(**given))


def test_what_is_no_task_is_bad_input(built: Build, configured: Configure) -> None:
    said = list(data_problems(configured("/nowhere.yaml").data, trains=False))
    assert said == ["data.lm_eval.own.tasks=/nowhere.yaml: no such file or directory"]
    with pytest.raises(InputError, match=r"data\.lm_eval\.own\.tasks=gsm8kk: no task, group or tag of lm_eval\. Did you mean 'gsm8k'\?"):
        built("gsm8kk")
    with pytest.raises(InputError, match="the task quiz stands there twice"):
        built("everything.yaml", "quiz.yaml")
    with pytest.raises(InputError, match=r"100 new tokens leave no room for its prompts in data.context_length=96"):
        built("sums.yaml", max_new_tokens=100)


def test_patterns_that_take_for_ever_count_as_not_found(built: Build, folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    slow = "(b|bb|b?)+$"
    filters = [
        {"name": name, "filter": [{"function": "regex", "regex_pattern": pattern, "group_select": -1}, {"function": "take_first"}]}
        for name, pattern in (("slow", slow), ("letter", "([a-z])"))
    ]
    metrics = [{"metric": "exact_match", "aggregation": "mean", "higher_is_better": True, "regexes_to_ignore": [slow, "x"]}]
    values = yaml.safe_load((folder / "sums.yaml").read_text())
    values |= {"task": "slow", "doc_to_target": "c", "filter_list": filters, "metric_list": metrics}
    (folder / "slow.yaml").write_text(yaml.safe_dump(values))
    asked = built("slow.yaml", limit=1).tasks[0]
    found, documents = values_of(asked.task, asked.file, [["b" * 60 + "c"]], key="data.lm_eval.own.tasks")
    assert documents == 1
    assert found == {("exact_match", "slow"): 0.0, ("exact_match", "letter"): 1.0}
    assert caplog.text.count("takes more than 0.5 s") == 1


def test_a_pattern_that_is_none_is_bad_input(built: Build, folder: Path) -> None:
    filters = [{"name": "broken", "filter": [{"function": "regex", "regex_pattern": "(a"}]}]
    values = yaml.safe_load((folder / "sums.yaml").read_text()) | {"task": "broken", "filter_list": filters}
    (folder / "broken.yaml").write_text(yaml.safe_dump(values))
    asked = built("broken.yaml", limit=1).tasks[0]
    with pytest.raises(InputError, match=r"the task broken .* '\(a': no regular expression"):
        values_of(asked.task, asked.file, [["a"]], key="data.lm_eval.own.tasks")


def test_data_without_a_document_are_bad_input(built: Build, folder: Path) -> None:
    (folder / "nothing.jsonl").write_text("")
    values = {**QUIZ, "task": "nothing", "dataset_kwargs": {"data_files": {"test": "nothing.jsonl"}}}
    (folder / "nothing.yaml").write_text(yaml.safe_dump(values))
    with pytest.raises(InputError, match=r"the task nothing .* cannot be used: its data hold no document"):
        built("nothing.yaml")


@pytest.mark.slow
def test_tasks_groups_and_tags_that_ship_are_found_by_name(session_cache: Path) -> None:
    def read(*names: str) -> list[TaskFile | GroupFile]:
        return read_tasks(names, key="x", cache_dir=session_cache)

    (sums,) = read("gsm8k")
    assert list(sums.metrics.items()) == [("exact_match/strict-match", True), ("exact_match/flexible-extract", True)]
    (mmlu,) = read("mmlu")
    assert len(list(leaves([mmlu]))) == 57
    assert mmlu.metrics == {"acc": True}
    assert [task.name for task in read("ai2_arc")] == ["arc_challenge", "arc_easy"]
    (openllm,) = read("openllm")
    shots = {task.name: task.values["num_fewshot"] for task in leaves([openllm])}
    assert (shots["arc_challenge"], shots["hellaswag"], shots["gsm8k"]) == (25, 10, 5)
