"""harness recipes: the bundles that can be reused here."""

from __future__ import annotations

from typing import Any

from harness.cli.arguments import AsJson, print_json
from harness.config.terminal import say


def recipes(as_json: AsJson = False) -> None:
    """List the recipes of --config-dir, ./conf and the harness's own: task, model, tokens, result and confidence."""
    from harness.config.errors import InputError
    from harness.report.recipe_readme import to_json
    from harness.runs.bundle import Bundle, bundles

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


def _show(found: list[tuple[Any, str]]) -> None:
    from rich.table import Table

    from harness.config.literal_console import LiteralConsole
    from harness.report.fitted_table import show
    from harness.report.recipe_readme import broken_text, confidence_text, result_text, task_text
    from harness.report.text import count_text

    table = Table("recipe", "task", "model", "tokens", "objective", "", "confidence", "exported", box=None, pad_edge=False)
    for column in table.columns:
        column.no_wrap = True
    for bundle, name in found:
        size = bundle.model.get("parameters", {}).get("total")
        model = f"{bundle.model.get('name', '?')}{f' ({count_text(size)})' if size else ''}"
        tokens = count_text(bundle.tokens.length)
        broken = broken_text(bundle)
        confidence = confidence_text(bundle) + (f"; breaks {broken}" if broken else "")
        table.add_row(name, task_text(bundle), model, tokens, bundle.metric or "", result_text(bundle), confidence, bundle.created)
    show(table, LiteralConsole())
