"""The reference of all keys, written from the schemas: `python -m harness.config.reference > docs/config.md`."""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Iterator

import yaml

from harness.config.introspect import Field, describe, fields_of
from harness.config.locations import shipped
from harness.config.schema import Config
from harness.config.sweep_schema import SweepConfig
from harness.config.synth_schema import SynthConfig
from harness.config.user_yaml import head_comment, in_one_line
from harness.config.validate import plain

HEADER = """\
# Configuration

Written from the schemas by `make docs`; a test fails when it is stale. What it says stands in `harness/config/schema/`.

- Any key is set on the command line in [Hydra's grammar](https://hydra.cc/docs/advanced/override_grammar/basic/): `optim.lr=3e-4`,
  `data.sources.docs.path=docs.jsonl`. A group is chosen the same way: `schedule=wsd`. `harness show` prints the resolved configuration
  and where each value came from.
- Whole numbers may be written as `2e6`; null means "not given".
- Choices of a group are YAML files: the harness's own `conf/`, overlaid by `conf/` in the working directory, by `conf/local/`
  there (what belongs to you and your cluster, not to a repository), and by `--config-dir`.
"""
RUN = """\
## A run

The keys that `harness show`, `data` and `train` read. `train`, `resume` and `confirm` take [`launcher`](#launcher), too.
"""
EXPERIMENT = """\
### `experiment`

Whole configurations, each a file of deltas over all sections: `experiment=quickstart`.
"""
SWEEP = """\
## A sweep file

The keys of a file under `sweeps/`; `harness sweep NAME` reads it. On its command line `space`, `constraints`, `search`, `stopping`,
`budget`, `launcher` and `storage` are about the sweep, all other overrides are added to `base`. `space.optim.lr.low=1e-5` changes one
end of a range, `space.optim.lr={low: 1e-5, high: 1e-3}` all of it, `~space.optim.lr` leaves it out;
`constraints.val/general/forgetting.max=0.5` likewise.
"""
SYNTH = """\
## A recipe for synthetic data

The keys of a file under `synth/`; `harness synth NAME` reads it, and so does `data.sources.<name>.path=synth:NAME`. Any of them can be set
on the command line: `teachers.teacher.model=my-model steps.answer.sampling.temperature=0.7`.
"""


def reference() -> str:
    """docs/config.md."""
    parts = [HEADER, RUN, *_section(Config, "", _groups("config")), EXPERIMENT, *_choices("experiment")]
    parts += [SWEEP, *_section(SweepConfig, "", _groups("sweep"))]
    parts += [SYNTH, *_section(SynthConfig, "", [])]
    return "\n".join(parts).rstrip() + "\n"


def _groups(primary: str) -> list[str]:
    """The groups that a primary configuration chooses from."""
    entries = yaml.safe_load((shipped("conf") / f"{primary}.yaml").read_text("utf-8"))["defaults"]
    return [group for entry in entries if isinstance(entry, dict) for group in entry]


def _section(section: type, key: str, groups: list[str]) -> Iterator[str]:
    """A section and those below it, each with a table of its keys and the choices of its group."""
    if key:
        yield f"### `{key}`\n\n{' '.join((section.__doc__ or '').split())}\n"
    leaves = [item for item in fields_of(section).values() if not item.section]
    if leaves:
        yield _table(key, leaves)
    if key in groups:
        yield from _choices(key)
    for item in fields_of(section).values():
        below = f"{key}.{item.name}" if key else item.name
        if item.section:
            yield from _section(item.section, below, groups)
        elif item.entries:
            yield from _section(item.entries, f"{below}.<name>", groups)


def _table(key: str, fields: list[Field]) -> str:
    rows = ["| key | valid | default | |", "|---|---|---|---|"]
    for item in fields:
        name = f"{key}.{item.name}" if key else item.name
        doc = item.doc + (f" Only read by {', '.join(item.only_for)}." if item.only_for else "")
        rows.append(f"| `{name}` | {_cell(describe(item.annotation))} | {_default(item)} | {_cell(doc)} |")
    return "\n".join(rows) + "\n"


def _default(item: Field) -> str:
    if item.default is dataclasses.MISSING:
        return "**required**"
    if item.default in ({}, []):
        return ""
    return f"`{in_one_line(plain(item.default))}`"


def _cell(text: str) -> str:
    """Text that Markdown shows as it stands inside a table."""
    return text.replace("|", "\\|").replace("<", "&lt;")


def _choices(group: str) -> Iterator[str]:
    """The harness's own choices of a configuration group, with the comment at the head of each file."""
    lines = [f"Choices of the group, `{group}=…`:\n"]
    for path in sorted((shipped("conf") / group).glob("*.yaml")):
        comment = head_comment(path)
        lines.append(f"- `{path.stem}`" + (f": {comment}" if comment else ""))
    yield "\n".join(lines) + "\n"


if __name__ == "__main__":
    sys.stdout.write(reference())
