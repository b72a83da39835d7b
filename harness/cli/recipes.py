"""harness recipes: the bundles that can be reused here."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from harness.cli.arguments import AsJson, print_json
from harness.config.terminal import say, shown

if TYPE_CHECKING:
    from harness.runs.bundle import Bundle


def recipes(as_json: AsJson = False) -> None:
    """List the recipes of --config-dir, ./conf and the harness's own: task, model, tokens, result and confidence."""
    from harness.config.errors import InputError
    from harness.report.recipe_readme import to_json
    from harness.runs.bundle import bundles

    found: list[tuple[Bundle, str]] = []
    documents: list[dict[str, Any]] = []
    for name, directory in bundles():
        try:
            bundle = directory.read()
        except InputError as error:
            say(f"{name}: left out: {error}", err=True)
            continue
        # Called by its directory: that is how it is found.
        found.append((bundle, name))
        documents.append({**to_json(bundle, str(directory.path)), "name": name, "experiment": f"best/{name}"})
    if as_json:
        print_json({"recipes": documents})
    elif not found:
        say("no recipe here: `harness best STUDY --export NAME` writes one under conf/experiment/best/; --config-dir names others'")
    else:
        _show(found)


def _show(found: list[tuple[Bundle, str]]) -> None:
    from rich.text import Text

    from harness.config.literal_console import LiteralConsole
    from harness.report.fitted_table import Column, FittedTable, show
    from harness.report.recipe_readme import broken_text, confidence_text, result_text, task_text
    from harness.report.text import count_text

    def column(name: str, of: Callable[[Bundle], str], *, expendable: float = 0.0, is_text: bool = True) -> Column:
        return Column(name, [Text(shown(of(bundle))) for bundle, _ in found], expendable=expendable, is_text=is_text)

    def model(bundle: Bundle) -> str:
        size = bundle.model.get("parameters", {}).get("total")
        return f"{bundle.model.get('name', '?')}{f' ({count_text(size)})' if size else ''}"

    def confidence(bundle: Bundle) -> str:
        broken = broken_text(bundle)
        return confidence_text(bundle) + (f"; breaks {broken}" if broken else "")

    columns = [
        Column("recipe", [Text(shown(name)) for _, name in found], is_text=True),
        column("task", task_text, expendable=2),
        column("model", model, expendable=3),
        column("tokens", lambda bundle: count_text(bundle.tokens.length), expendable=4, is_text=False),
        column("metric", lambda bundle: bundle.metric or "", expendable=1),
        column("objective", result_text),
        column("confidence", confidence),
        column("exported", lambda bundle: bundle.created, expendable=5),
    ]
    show(FittedTable(columns), LiteralConsole())
