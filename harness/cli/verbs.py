"""The verbs, in the panels of `harness --help`, each with examples; and how they explain themselves and read their words."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import typer
from typer.core import TyperCommand, TyperGroup

from harness.cli import (
    best,
    chat,
    compare,
    confirm,
    dashboard,
    data,
    evaluate,
    export,
    generate,
    init,
    logs,
    ls,
    merge,
    quickstart,
    recipes,
    reproduce,
    show,
    status,
    steer,
    stop,
    study_run,
    sweep,
    sync,
    synth,
    train,
    worker,
    workers,
)
from harness.config.aliases import alias_of
from harness.config.errors import InputError

Example = tuple[Callable[..., None], list[str]]
PANELS: dict[str, list[Example]] = {
    "Begin": [
        (quickstart.quickstart, ["harness quickstart"]),
        (ls.ls, ["harness ls", "harness ls studies --json", "harness ls choices"]),
        (init.init, ["harness init sweep cpt my_question", "harness init launcher slurm_8gpu my_cluster"]),
    ],
    "One run": [
        (show.show, ["harness show experiment=cpt model.path=my-model", "harness show cpt/3"]),
        (data.data, ["harness data experiment=cpt model.path=my-model data.sources.target.path=docs.jsonl", "harness data … --show 2"]),
        (train.train, ["harness train experiment=cpt model.path=my-model …", "harness train experiment=best/NAME seed=1"]),
        (train.resume, ["harness resume 20260101-120000-cpt", "harness resume cpt budget.trials=16 --workers 2"]),
        (evaluate.evaluate, ["harness evaluate my-model data.validation.docs.path=docs.jsonl", "harness evaluate cpt/3"]),
        (
            generate.generate,
            [
                'harness generate my-model --prompt "Once upon a time" -n 3 sampling=min_p',
                "harness generate cpt/3 --prompts prompts.jsonl --max-new-tokens 512 sampling.seed=1",
            ],
        ),
        (chat.chat, ["harness chat my-model sampling=min_p", "harness chat cpt/3 --system 'You are brief.'"]),
        (
            synth.synth,
            [
                "harness synth answers seeds.prompts.path=prompts.jsonl teachers.teacher.model=my-model budget.tokens=1e6 --preview 5",
                "harness synth my-recipe.yaml --workers 4",
            ],
        ),
        (export.export, ["harness export cpt/3 my-new-model"]),
        (
            merge.merge,
            [
                "harness merge my-merge --method linear model.merge.ingredients.a.path=model-a model.merge.ingredients.b.path=cpt/3",
                "harness merge my-merge mergekit.yml --dry-run",
            ],
        ),
        (
            steer.steer,
            [
                'harness steer happy --model my-model --pairs pairs.jsonl --block 14 --coefficient 0.2 --try "Once upon a time"',
                "harness steer happy-gguf --model study/7 --format gguf",
            ],
        ),
    ],
    "A study": [
        (
            sweep.sweep,
            [
                "harness sweep cpt model.path=my-model data.sources.target.path=docs.jsonl data.sources.general.path=general.jsonl",
                "harness sweep cpt budget.trials=32 space.optim.lr.high=3e-3 constraints.val/general/forgetting.max=0.5 --name cpt_low …",
                "harness sweep cpt launcher=slurm --workers 16 --dry-run",
            ],
        ),
        (status.status, ["harness status cpt --watch"]),
        (logs.logs, ["harness logs cpt/3"]),
        (stop.stop, ["harness stop cpt"]),
        (workers.workers, ["harness workers cpt --to 8"]),
        (dashboard.dashboard, ["harness dashboard cpt"]),
        (confirm.confirm, ["harness confirm cpt --top 3 --seeds 3"]),
    ],
    "Results": [
        (compare.compare, ["harness compare cpt --html cpt.html", "harness compare cpt/3 cpt/7 --all"]),
        (best.best, ["harness best cpt --export NAME"]),
        (recipes.recipes, ["harness recipes"]),
        (reproduce.reproduce, ["harness reproduce NAME --check"]),
        (sync.sync, ["harness sync cpt --watch"]),
    ],
}
HIDDEN = (worker.worker, study_run.study_run, train.attempt)
"""What jobs and workers call."""

WORDS = {"int": "N", "int range": "N", "float": "X", "float range": "X", "path": "PATH", "bool": ""}
"""What stands for a value in a help text, by Typer's name of its type; TEXT for others."""


def register(app: typer.Typer) -> None:
    """Make every verb a command of `app`."""
    for panel, verbs in PANELS.items():
        for function, examples in verbs:
            # A line break of the source would be one in the help; in an epilog, blank lines are line breaks.
            paragraphs = [" ".join(part.split()) for part in (inspect.getdoc(function) or "").split("\n\n")]
            told, epilog = "\n\n".join(paragraphs), "\n\n".join(["Examples:", *examples])
            app.command(cls=Verb, rich_help_panel=panel, help=told, epilog=epilog)(function)
    for function in HIDDEN:
        app.command(cls=Verb, hidden=True)(function)


class InWords:
    """Of a command or a group of them: its help shows words for values."""

    def get_params(self, ctx: Any) -> Any:
        parameters = super().get_params(ctx)  # type: ignore[misc]
        for parameter in parameters:
            _show_in_words(parameter)
        return parameters


class Verbs(InWords, TyperGroup):
    """`harness` itself."""


class Verb(InWords, TyperCommand):
    """A command that knows what is meant by `--optim.lr=1e-3`."""

    def parse_args(self, ctx: Any, args: list[str]) -> Any:
        if not ctx.resilient_parsing:
            self._refuse_dashes(ctx, args)
        return super().parse_args(ctx, args)

    def _refuse_dashes(self, ctx: Any, args: list[str]) -> None:
        """An option of another tool, or a key behind dashes: say how it is written here."""
        own = {name for parameter in self.get_params(ctx) for name in (*parameter.opts, *parameter.secondary_opts)}
        for index, word in enumerate(args[: args.index("--")] if "--" in args else args):
            option, equals, value = word.partition("=")
            key = option.removeprefix("--")
            if key == option or option in own or not ("." in key or alias_of(key)):
                continue
            meant = alias_of(key) or key
            following = args[index + 1] if index + 1 < len(args) and not equals else ""
            given = value or ("" if following.startswith("-") else following) or "VALUE"
            raise InputError(f"{option}: overrides are KEY=VALUE, without dashes: {meant}={given}")


def _show_in_words(parameter: Any) -> None:
    """Have the help show a word for a parameter's value, where Typer shows a type or a name of Python's; older Typers do not."""
    if parameter.param_type_name == "argument" and parameter.metavar is None:
        parameter.metavar = parameter.name.upper()
    shown = getattr(parameter, "display_type_rich", None)
    if shown is None or getattr(shown, "is_in_words", False):
        return

    def in_words(ctx: Any) -> str | None:
        kind = "" if parameter.param_type_name == "argument" else shown(ctx) or ""
        return WORDS.get(kind.strip("<>"), "TEXT") if kind.startswith("<") else kind

    in_words.is_in_words = True  # type: ignore[attr-defined]
    parameter.display_type_rich = in_words
    parameter._get_number_range_help_str = lambda: None
