"""Tasks of lm_eval with their documents and requests, made of files that were read and found to be trusted."""

from __future__ import annotations

import importlib
import importlib.util
import inspect
import logging
import math
import random
import sys
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from jinja2 import BaseLoader, StrictUndefined, Template, TemplateError

from harness.config.errors import InputError
from harness.data.chat.template_limits import LimitedEnvironment, TemplateLimitError, limits
from harness.evaluation.lm_eval import bounded_re
from harness.evaluation.lm_eval.shipped import EXTRA
from harness.evaluation.lm_eval.task_files import Code, TaskFile
from harness.runs.machine_faults import machine_fault

FEWSHOT_SEED = 1234
"""As lm_eval has it: which examples stand before a document."""
RANDOM_SEED, NUMPY_SEED = 0, 1234
"""As lm_eval has them, for what tasks shuffle themselves."""
ChatTemplate = Callable[..., str]


class _LimitedTemplate(Template):
    def render(self, *values: Any, **more: Any) -> str:
        with limits():
            return super().render(*values, **more)


class _Sandbox(LimitedEnvironment):
    """Its templates may take as much time and memory as a chat template."""

    template_class = _LimitedTemplate

    def from_string(self, *source: Any, **more: Any) -> Template:
        with limits():
            return super().from_string(*source, **more)


@cache
def library() -> Any:
    """lm_eval, without its bars and hints, with templates in a sandbox, and these and patterns within limits: they may be a stranger's.

    Raises InputError where it is not installed.
    """
    try:
        from datasets.utils import disable_progress_bars
        from lm_eval import utils
        from lm_eval.api import metrics, task  # metrics register themselves
        from lm_eval.filters import extraction, transformation
    except ImportError as error:
        problem = EXTRA if error.name in ("lm_eval", "datasets") else f"lm_eval cannot be imported: {error}"
        raise InputError(f"data.lm_eval: {problem}") from None
    sandbox = _Sandbox(loader=BaseLoader(), undefined=StrictUndefined, keep_trailing_newline=True)
    sandbox.filters.update(utils.env.filters)
    utils.env = sandbox
    for module in (extraction, transformation, metrics):
        module.re = bounded_re
    disable_progress_bars()
    task.tqdm = lambda rows, **_: rows
    logging.getLogger("lm_eval").setLevel(logging.ERROR)
    return importlib.import_module("lm_eval")


def known_metrics() -> Collection[str]:
    """The names of the metrics that lm_eval has itself."""
    library()
    from lm_eval.api.registry import metric_registry

    return set(metric_registry)


def load_task(file: TaskFile, *, key: str, num_fewshot: int | None, cache_dir: Path) -> Any:
    """The task, with its documents. cache_dir: where data sets that it names are kept. Raises InputError for one that cannot be used."""
    library()
    from lm_eval.api.task import ConfigurableTask

    with _reported(file, key), _seeded():
        values = _resolved(dict(file.values))
        for name in ("tag", "group", "task_list"):
            values.pop(name, None)
        values["task"] = file.name
        if values.get("dataset_path") is not None and values.get("custom_dataset") is None:
            given = {name: value for name, value in (values.get("dataset_kwargs") or {}).items() if name != "trust_remote_code"}
            values["dataset_kwargs"] = {"cache_dir": str(cache_dir), **given}
        made = values.get("class", ConfigurableTask)
        task: Any = made(config=values) if "config" in inspect.signature(made).parameters else made()
        own = task.get_config("num_fewshot")
        # A task that says 0 has no examples to give, as lm_eval reads it.
        task.set_config(key="num_fewshot", value=own or 0 if num_fewshot is None or own == 0 else num_fewshot)
        return task


def build_requests(task: Any, file: TaskFile, *, key: str, limit: int | None, template: ChatTemplate | None) -> list[Any]:
    """The requests of the first `limit` documents, as lm_eval's Instances. template: renders messages where the task is asked as a
    conversation. Raises InputError for documents that cannot be used."""
    with _reported(file, key), _seeded():
        task.set_fewshot_seed(seed=FEWSHOT_SEED)
        task.build_all_requests(
            limit=limit, apply_chat_template=template is not None, fewshot_as_multiturn=template is not None, chat_template=template
        )
        return list(task.instances)


def values_of(task: Any, file: TaskFile, answers: Sequence[Sequence[Any]], *, key: str) -> tuple[dict[tuple[str, str], float], int]:
    """What a task makes of the answers to its requests, by (metric, filter); and how many of its documents have
    a metric.

    answers: of each request, as often as it was asked: (log-likelihood, whether it was the most likely text), a log-likelihood, or a text.
    Raises InputError for a metric that is no number.
    """
    with _reported(file, key), _seeded():
        documents: dict[int, list[Any]] = {}
        for instance, given in zip(task.instances, answers, strict=True):
            instance.resps, instance.filtered_resps = list(given), {}
            documents.setdefault(instance.doc_id, []).append(instance)
        task.apply_filters()
        found: dict[tuple[str, str], list[Any]] = {}
        for asked in documents.values():
            asked.sort(key=lambda instance: instance.idx)
            for name in asked[0].filtered_resps:
                measured = task.process_results(asked[0].doc, [instance.filtered_resps[name] for instance in asked])
                for metric, value in measured.items():
                    found.setdefault((metric, name), []).append(value)
        aggregations = task.aggregation()
        values = {place: _aggregate(aggregations.get(place[0], np.mean), items) for place, items in found.items()}
        return values, max(map(len, found.values()), default=0)


def _aggregate(aggregation: Callable[[list[Any]], Any], items: list[Any]) -> float:
    try:
        return float(aggregation(items))
    except OverflowError:  # the perplexity of a text that the model finds impossible
        return math.inf


def _resolved(value: Any) -> Any:
    """The value with functions in place of their names."""
    if isinstance(value, Code):
        return _function(value)
    if isinstance(value, Mapping):
        return {name: _resolved(below) for name, below in value.items()}
    return [_resolved(below) for below in value] if isinstance(value, list) else value


def _function(code: Code) -> Any:
    module, _, name = code.name.rpartition(".")
    return getattr(_module(code.module_path.resolve()) if code.module_path.exists() else importlib.import_module(module), name)


@cache
def _module(path: Path) -> Any:
    """The module of a file. Under its path's name: several tasks have a utils.py."""
    name = f"lm_eval_task_{path.with_suffix('').as_posix().strip('/').replace('/', '.')}".replace(".", "_")
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None, "it ends with .py"
    assert spec.loader is not None, "it ends with .py"
    module = sys.modules[name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@contextmanager
def _seeded() -> Iterator[None]:
    """Within it, what tasks shuffle is the same every time; what the run itself draws goes on as if nothing had been."""
    before, numbers = random.getstate(), np.random.get_state()
    random.seed(RANDOM_SEED)
    np.random.seed(NUMPY_SEED)
    try:
        yield
    finally:
        random.setstate(before)
        np.random.set_state(numbers)


@contextmanager
def _reported(file: TaskFile, key: str) -> Iterator[None]:
    """Errors that task files, their documents and their functions may lead to, as InputError."""
    from datasets.exceptions import DatasetsError

    try:
        yield
    except (
        *(OSError, ValueError, TypeError, LookupError, AttributeError, ImportError, SyntaxError, AssertionError, RuntimeError),
        *(ArithmeticError, NotImplementedError, TemplateError, TemplateLimitError, MemoryError, DatasetsError, StopIteration),
    ) as error:
        if machine_fault(error):
            raise
        said = f"{type(error).__name__}: {' '.join(str(error).split())[:500]}"
        problem = "its data hold no document" if isinstance(error, StopIteration) else said
        raise InputError(f"{key}: the task {file.name} ({file.path}) cannot be used: {problem}") from error
