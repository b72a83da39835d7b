"""harness show: the resolved configuration, and where each value came from."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from harness.cli.arguments import AsJson, Overrides, print_json


def show(overrides: Overrides = None, as_json: AsJson = False) -> None:
    """Show the resolved, validated config, and where each value came from."""
    from harness.config.load import load
    from harness.config.validate import to_plain

    loaded = load(overrides or [])
    config = to_plain(loaded.config)
    if as_json:
        print_json({"config": config, "origins": loaded.composed.origins, "groups": loaded.composed.groups})
        return
    from rich.console import Console

    console = Console(highlight=False)
    for line, origin in _lines(config, loaded.composed.origin):
        style = "dim" if origin is None else "bold cyan" if origin == "the command line" else "cyan"
        console.print(line, style=style, end="", markup=False, soft_wrap=True)
        console.print(f"  # {_short(origin)}" if origin else "", style="green", markup=False, soft_wrap=True)


def _lines(values: dict[str, Any], origin: Any, prefix: str = "", depth: int = 0) -> list[tuple[str, str | None]]:
    import yaml

    lines: list[tuple[str, str | None]] = []
    for key, value in values.items():
        if isinstance(value, dict) and value:
            lines.append(("  " * depth + f"{key}:", None))
            lines += _lines(value, origin, f"{prefix}{key}.", depth + 1)
        else:
            text = yaml.safe_dump(value, default_flow_style=True, allow_unicode=True, width=10_000).removesuffix("\n...\n").strip()
            lines.append(("  " * depth + f"{key}: {text}", origin(prefix + key)))
    return lines


def _short(origin: str) -> str:
    path = Path(origin)
    return str(path.relative_to(Path.cwd())) if path.is_relative_to(Path.cwd()) else origin
