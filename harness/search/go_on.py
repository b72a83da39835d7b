"""Going on with a study that was launched before, without telling it again what its launch was told."""

from __future__ import annotations

from collections.abc import Sequence

from harness.config.errors import InputError
from harness.config.launcher import load_launcher, split_launcher
from harness.config.nested import set_value
from harness.config.overrides import COMMAND_LINE, GroupOverride, ValueOverride, key_of, parse
from harness.config.sweep_schema import SweepConfig
from harness.config.validate import refuse_unread, to_plain, to_section
from harness.runs.confirmation_plan import read_plan
from harness.runs.directory import StudyDirectory, runs_root
from harness.runs.files import read_yaml
from harness.search.checks import check
from harness.search.status import read_status
from harness.search.sweep import CHANGEABLE, Sweep, thaw


def go_on(study: StudyDirectory, overrides: Sequence[str]) -> Sweep:
    """The sweep of a study as it was frozen at launch, with other values of its budget and launcher.

    Raises InputError for overrides of anything else, for configuration files that say something else by now, and for a confirmation.
    """
    fixed = [text for text in overrides if key_of(text).split(".")[0] not in CHANGEABLE]
    if fixed:
        raise InputError(
            f"{fixed[0]!r}: the study {study.name} goes on as it was launched; only budget and launcher can change, "
            "e.g. budget.trials=16 launcher.workers=4. Another question is another study: harness sweep … --name NAME"
        )
    document = read_yaml(study.sweep)
    if "launched" not in document:
        raise InputError(f"{study.sweep}: a sweep file that was not launched as a study; harness sweep {study.sweep} does")
    plan = read_plan(study)
    if plan is not None:
        raise InputError(f"{study.name} is the confirmation of {plan.study}: `harness confirm {plan.study}` goes on with it")
    launched = thaw(study.sweep)
    if study.path.resolve() != (runs_root() / study.name).resolve():
        raise InputError(f"{study.path}: not under {runs_root()}/; set HARNESS_RUNS={study.path.resolve().parent} to go on with it")
    config = _changed(launched, list(overrides)) if overrides else launched.config
    sweep = launched.beside(study.name, config, launched.start, with_later(launched.given, overrides))
    # What was checked at its launch, and has ended, is only looked at.
    if overrides or not read_status(study).is_finished:
        check(sweep)
    return sweep


def with_earlier(study: StudyDirectory, overrides: Sequence[str]) -> list[str]:
    """Overrides for a sweep whose study may have been launched before: those of its launches, each replaced by a later one of its key."""
    earlier = read_yaml(study.sweep).get("given", []) if study.sweep.exists() else []
    return list(with_later(earlier, overrides))


def with_later(earlier: Sequence[str], later: Sequence[str]) -> tuple[str, ...]:
    """Both. A later one takes the place of the earlier one of its key; a group chosen anew has nothing of what was set of its earlier
    choice."""
    replaced = {key_of(text): text for text in later}
    anew = {key for key, text in replaced.items() if text not in earlier}
    kept = [replaced.get(key_of(text), text) for text in earlier if not any(key_of(text).startswith(f"{key}.") for key in anew)]
    return tuple(dict.fromkeys([*kept, *later]))


def _changed(sweep: Sweep, overrides: list[str]) -> SweepConfig:
    """The sweep with values of budget and launcher; a launcher that is chosen anew has nothing of the earlier one."""
    values = to_plain(sweep.config)
    parsed = parse(overrides, SweepConfig)
    if any(isinstance(override, GroupOverride) and override.to_hydra() not in sweep.given for override in parsed):
        of_launcher, others = split_launcher(overrides)
        values["launcher"] = to_plain(load_launcher(of_launcher))
        parsed = parse(others, SweepConfig)
    given = {override.key: override.value for override in parsed if isinstance(override, ValueOverride)}
    for key, value in given.items():
        set_value(values, key, value)
    changed = to_section(SweepConfig, values, origin=lambda key: COMMAND_LINE if key in given else None)
    refuse_unread(changed, given)
    return changed
