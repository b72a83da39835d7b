"""The README.md of a recipe: its task, its result and the confidence in it, how to run it again, its limits."""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterator, Sequence
from typing import Any

import yaml

from harness.evaluation.kinds import metric_of, shown_name
from harness.report.text import bound_text, count_text, digits_of, duration_text, metric_text, value_text
from harness.runs.bundle import Bundle
from harness.runs.constraints import broken


def readme(bundle: Bundle, pictured: Sequence[str], *, experiment: str) -> str:
    """README.md. pictured: the files of its pictures. experiment: the text of the experiment file, whose values are its first part."""
    front = yaml.safe_dump(_front(bundle), sort_keys=False, allow_unicode=True)
    return f"---\n{front}---\n\n" + "\n".join(_body(bundle, pictured, experiment)) + "\n"


def _front(bundle: Bundle) -> dict[str, Any]:
    """What the Hugging Face hub reads. Without a library_name: there is nothing here that a library of the hub's could load."""
    kinds = [kind for kind in bundle.task.values() if kind != "none"] if bundle.steps else [task_text(bundle)]
    front: dict[str, Any] = {"tags": ["hyperparameters", "harness", *kinds], "pipeline_tag": "text-generation"}
    if bundle.model.get("hub"):
        front["base_model"] = bundle.model["hub"]
    if bundle.datasets:
        front["datasets"] = bundle.datasets
    if bundle.metric and bundle.objective is not None:
        _, _, rest = bundle.metric.partition("/")
        metric = {"type": rest.rpartition("/")[2] or bundle.metric, "value": _objective(bundle), "name": bundle.metric}
        # The hub asks for a type of data set, which it does not look up.
        on = {"type": "evaluation", "name": rest.rpartition("/")[0] or "training"}
        front["metrics"] = [metric["type"]]
        result = {"task": {"type": "text-generation"}, "dataset": on, "metrics": [metric]}
        front["model-index"] = [{"name": bundle.name, "results": [result]}]
    return front


def confidence_text(bundle: Bundle) -> str:
    """The confidence in the result, in a few words."""
    if not bundle.confirmed:
        return "unconfirmed, one seed"
    found = bundle.confirmation or {}
    chance = found.get("probability_best")
    # Those that were in the running: of others a confirmation gives no probability.
    rivals = [one for one in found.get("candidates", []) if isinstance(one, dict) and one.get("probability_best") is not None]
    return f"{len(bundle.seeds)} seeds" + (f", best of {len(rivals)} with probability {chance:.2f}" if chance is not None else "")


def task_text(bundle: Bundle) -> str:
    """cpt, or cpt with lora; where nothing was trained, what was done instead."""
    objective, adapter = bundle.task.get("objective", "?"), bundle.task.get("adapter", "none")
    if not bundle.steps:
        return adapter if adapter != "none" else "merging" if bundle.ingredients else "sampling" if bundle.served else "evaluation"
    return objective if adapter == "none" else f"{objective} with {adapter}"


def result_text(bundle: Bundle) -> str:
    """The result with its interval."""
    if bundle.confirmed and bundle.interval:
        half = (bundle.interval[1] - bundle.interval[0]) / 2
        return f"{metric_text(bundle.objective)} ± {metric_text(half)}"
    return metric_text(_objective(bundle))


def _objective(bundle: Bundle) -> float | None:
    """Of a confirmed winner the mean over seeds, else the run's own: a candidate that lost has a mean, too, but was not ranked by it."""
    return bundle.objective if bundle.confirmed else bundle.metrics.get(bundle.metric or "", bundle.objective)


def broken_text(bundle: Bundle) -> str:
    """The constraints of its study that it breaks, in words; "" where it meets them, or there are none."""
    return ", ".join(broken(bundle.constraints, bundle.metrics_over_seeds if bundle.confirmed else bundle.metrics))


def _body(bundle: Bundle, pictured: Sequence[str], experiment: str) -> Iterator[str]:
    what = f"{task_text(bundle)} of {bundle.model['name']}"
    origin = f"trial {bundle.trial} of the {bundle.trials} of study {bundle.study}" if bundle.study else "a single run"
    yield f"# {bundle.name}\n"
    yield f"A configuration for {what}, over {count_text(bundle.tokens.length)} tokens: {origin}, exported {bundle.created}.\n"
    if bundle.metric:
        yield f"**{bundle.metric}: {result_text(bundle)}** ({bundle.direction}; {confidence_text(bundle)})\n"
    if text := broken_text(bundle):
        yield f"**It breaks a constraint of its study: {text}.**\n"
    yield from (f"- {line}" for line in bundle.report)
    if bundle.report:
        yield ""
    values = "\n".join(line for line in experiment.splitlines() if not line.startswith("#")).strip()
    chosen = " ".join(
        shlex.quote(f"{key}={json.dumps(value) if not isinstance(value, str) else value}") for key, value in bundle.params.items()
    )
    searched = f"Searched: `{chosen}`. " if chosen else ""
    yield f"## The values\n\n{searched}As `conf/experiment/{bundle.name}.yaml`:\n\n```yaml\n# @package _global_\n{values}\n```\n"
    yield from _how_to_run_again(bundle)
    if bundle.served:
        yield "## Sampled alike elsewhere\n\n| engine | settings | | what differs |\n|---|---|---|---|"
        for served in bundle.served:
            notes = "; ".join(served.get("notes", [])) or "nothing"
            yield f"| {served['engine']} | [{served['file']}]({served['file']}) | {served['verdict']} | {notes} |"
        yield ""
    yield from _ingredients(bundle)
    yield from _reached(bundle)
    yield "\nLosses are nats per token; forgetting is the rise of a loss since step 0; one that fell is called change."
    if bundle.noise:
        yield f"Seeds alone change {bundle.metric} with a standard deviation of {metric_text(bundle.noise['sd'])}."
    if bundle.params:
        how = f" ({bundle.importances_note})" if bundle.importances_note else ""
        yield f"\n## What was searched\n\n| parameter | chosen | of | importance{how} |\n|---|---|---|---|"
        for key, value in bundle.params.items():
            share = bundle.importances.get(key)
            domain = {name: part for name, part in bundle.space.get(key, {}).items() if name != "when"}
            chosen = value_text(value, digits=digits_of(domain))
            yield f"| {key} | {chosen} | {_domain(domain)} | {'' if share is None else f'{share:.0%}'} |"
    yield "".join(f"\n![{name.removesuffix('.svg')}]({name})\n" for name in pictured)
    yield from _about(bundle)


def ingredient_file(key: str) -> str:
    """The file of a bundle that says how an ingredient was made. key: model.merge.ingredients.docs"""
    return f"ingredients/{key.removeprefix('model.merge.').removeprefix('ingredients.').replace('/', '-')}.yaml"


def _ingredients(bundle: Bundle) -> Iterator[str]:
    if not bundle.ingredients:
        return
    yield "## What it is made of\n\n| model | where it was | fingerprint | made by |\n|---|---|---|---|"
    for key, one in bundle.ingredients.items():
        made = one.get("made_by")
        how = f"[{made['run']}]({ingredient_file(key)}), at step {made['step']}" if made else "others, or a run that was not at hand"
        yield f"| {key} | `{one.get('path')}` | `{str(one.get('fingerprint'))[:16]}` | {how} |"
    yield "\n`harness train --config FILE` makes an ingredient again, where a file here says how it was made. Its path is given"
    yield "as `KEY.path=…`, of the base as `model.merge.base=…`.\n"
    if bundle.mergekit is not None:
        yield f"No mergekit.yml: {bundle.mergekit}.\n" if bundle.mergekit else "In mergekit's words: [mergekit.yml](mergekit.yml).\n"


def _reached(bundle: Bundle) -> Iterator[str]:
    """The metrics, the objective first; columns that would be empty are left out."""
    head = ["metric", "this run", *(["mean over seeds"] if bundle.metrics_over_seeds else []), *(["bound"] if bundle.constraints else [])]
    yield f"## What it reached\n\n| {' | '.join(head)} |\n|{'---|' * len(head)}"
    names = sorted(name for name in bundle.metrics if metric_of(name))
    judged = bundle.metrics_over_seeds if bundle.confirmed else bundle.metrics
    for name in sorted(names, key=lambda name: name != bundle.metric):
        label = name if name in bundle.constraints else shown_name(name, bundle.metrics[name])
        cells = [label, metric_text(bundle.metrics[name])]
        if bundle.metrics_over_seeds:
            cells.append(metric_text(bundle.metrics_over_seeds.get(name)))
        if bundle.constraints:
            outside = " (broken)" if broken({name: bundle.constraints.get(name, {})}, judged) else ""
            chance = f"; a fresh seed meets it with chance {bundle.chances[name]:.2f}" if name in bundle.chances else ""
            cells.append(f"{bound_text(bundle.constraints.get(name, {}))}{outside}{chance}")
        if name == bundle.metric:
            cells = [f"**{cell}**" if cell else cell for cell in cells]
        yield f"| {' | '.join(cells)} |"


def _how_to_run_again(bundle: Bundle) -> Iterator[str]:
    given = "".join(f" \\\n    {key}={value}" for key, value in bundle.to_give.items())
    yield f"""## Run it again

```bash
harness reproduce THIS_DIRECTORY{given}
```

checks data, tokenizer, model and versions against those below, runs it again and compares. With this directory and `{bundle.name}.yaml`
in `conf/experiment/best/`, also `harness train experiment=best/{bundle.name}{"".join(f" {key}=…" for key in bundle.to_give)}`, and
`harness sweep SWEEP search.warm_start=best/{bundle.name}` begins a search here."""
    if bundle.to_give:
        yield "\nTo be given, since they lie elsewhere for everybody:\n"
        yield from (f"- `{key}`: {name}" for key, name in bundle.to_give.items())
    yield ""


def _domain(domain: dict[str, Any]) -> str:
    digits = digits_of(domain)
    if "choices" in domain:
        return ", ".join(value_text(choice, digits=digits) for choice in domain["choices"])
    ends = " to ".join(value_text(domain.get(end), digits=digits) for end in ("low", "high"))
    return f"{ends}{', log' if domain.get('log') else ''}" if domain else ""


def _about(bundle: Bundle) -> Iterator[str]:
    parameters = bundle.model.get("parameters", {})
    size = f"{count_text(parameters['total'])} parameters" if parameters.get("total") else ""
    if size and bundle.steps:
        size += f", {count_text(parameters['trained'])} trained"
    hardware = [bundle.hardware.get("cpu", "unknown"), *bundle.hardware.get("gpus", [])]
    rate = bundle.metrics.get("tokens_per_second")
    yield f"""## What it was found on

- model: {bundle.model["name"]}{f" ({size})" if size else ""}
- length: {bundle.steps:,} steps, {bundle.tokens.length:,} tokens
- time: {duration_text(bundle.seconds)}{f", {rate:,.0f} tokens/s" if rate else ""}
- hardware: {", ".join(map(str, hardware))}; {bundle.hardware.get("threads")} threads
- seed: {bundle.seed}{f"; {'confirmed' if bundle.confirmed else 'tried'} over {', '.join(map(str, bundle.seeds))}" if bundle.seeds else ""}
- experiments that it builds on: {", ".join(bundle.base) or "none"}
- commit of its author's directory: {bundle.git_commit or "unknown"}
- {", ".join(f"{name} {version}" for name, version in bundle.versions.items())}

| fingerprint of | SHA-256 |
|---|---|
""" + "\n".join(f"| {name} | `{value}` |" for name, value in bundle.fingerprints.items())
    limits = "It was found for this model, and for what it was measured on."
    if bundle.steps:
        limits = (
            "It was found for this model, this batch and this many tokens. The best learning rate moves with all three, and is commonly\n"
        )
        limits += "about ten times higher for low-rank adapters than for all weights; "
        limits += f"`harness train experiment=best/{bundle.name} …` says so where you change one."
    yield f"""
## Limits

{limits}

Files: `config.yaml` (resolved), `experiment.yaml` (the delta), `trials.parquet` (every run of the search and of its confirmation),
`metrics.jsonl` (this run), `bundle.json` (all of this for programs){", `sweep.yaml` (the question)" if bundle.study else ""}."""


def to_json(bundle: Bundle, directory: str) -> dict[str, Any]:
    """An entry of `harness recipes --json`."""
    document: dict[str, Any] = json.loads(
        json.dumps(
            {
                "name": bundle.name,
                "experiment": f"best/{bundle.name}",
                "task": bundle.task,
                "model": bundle.model,
                "tokens": bundle.tokens.length,
                "metric": bundle.metric,
                "direction": bundle.direction,
                "objective": _objective(bundle),
                "interval": bundle.interval if bundle.confirmed else None,
                "confirmed": bundle.confirmed,
                "feasible": not broken_text(bundle) if bundle.constraints else None,
                "seeds": bundle.seeds,
                "sure": confidence_text(bundle),
                "study": bundle.study,
                "trials": bundle.trials,
                "params": bundle.params,
                "created": bundle.created,
                "directory": directory,
            }
        )
    )
    return document
