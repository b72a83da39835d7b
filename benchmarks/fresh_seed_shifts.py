"""How well one can tell from some candidates of a confirmation what fresh seeds add to a constraint's metric of others.

    python -m benchmarks.real_search --task quickstart --folder DIR     # studies with confirmations; or any folder of such
    python -m benchmarks.fresh_seed_shifts DIR...

Each DIR holds folders of runs with a study of the same name in each. Two questions, for every study: what is expected of a candidate from
all others, and what of the later ones from the first three, which are the best of the search. Candidates that came to the same count once.
"""

from __future__ import annotations

import argparse
import math
import statistics
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

from benchmarks.workload import require
from harness.runs.directory import StudyDirectory
from harness.runs.fresh_seeds import outcome, shifts_of_candidates
from harness.runs.record import RunRecord, StudyRecord, load_study
from harness.search import next_candidates
from harness.search.space import parse_space

REACHES = (0.1, 0.2, 0.3, 0.4, 0.5, 0.8, 1.2)
Predict = Callable[[StudyRecord, Sequence[RunRecord], dict[int, float]], Iterable[float]]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folders", nargs="+", type=Path)
    studies = list(_studies(parser.parse_args().folders))
    require(bool(studies), "studies under one constraint whose confirmation has two candidates or more")
    print(f"{len(studies)} studies\n")
    print("| expected | each from all others: candidates | root mean square error | bias | later ones from the first three | rmse | bias |")
    print("|---" * 7 + "|")
    _row("nothing", studies, lambda study, runs, known: [0.0] * len(runs))
    _row("the mean of the known", studies, lambda study, runs, known: [statistics.fmean(known.values())] * len(runs))
    for reach in REACHES:
        next_candidates.REACH = reach
        _row(f"Gaussian process, reach {reach}", studies, _expected)


def _studies(folders: Sequence[Path]) -> Iterator[tuple[StudyRecord, dict[int, float]]]:
    """Those under one constraint with two candidates or more, and the shifts of these."""
    for folder in folders:
        for home in sorted(folder.iterdir()):
            directory = StudyDirectory(home / home.name)
            study = load_study(directory) if directory.sweep.exists() else None
            if study is None or study.confirmation is None or len(study.constraints) != 1:
                continue
            (shifts,) = shifts_of_candidates(study.confirmation, study.runs).values()
            outcomes = {run.number: outcome(run) for run in study.runs}
            first = {outcomes[number]: number for number in reversed(shifts)}
            distinct = {number: shift for number, shift in shifts.items() if first[outcomes[number]] == number}
            if len(distinct) > 1:
                yield study, distinct


def _expected(study: StudyRecord, runs: Sequence[RunRecord], known: dict[int, float]) -> Iterable[float]:
    params = {run.number: run.params for run in study.runs}
    space = parse_space(study.sweep["space"])
    found = next_candidates.expected_shifts(
        space, [(params[number], shift) for number, shift in known.items()], [run.params for run in runs]
    )
    return [float(shift) for shift in found]


def _row(name: str, studies: Sequence[tuple[StudyRecord, dict[int, float]]], predict: Predict) -> None:
    each: list[float] = []
    later: list[float] = []
    for study, shifts in studies:
        runs = {run.number: run for run in study.runs}
        for number, shift in shifts.items():
            others = {other: value for other, value in shifts.items() if other != number}
            each += [float(found) - shift for found in predict(study, [runs[number]], others)]
        rest = list(shifts)[3:]
        if rest:
            known = {number: shifts[number] for number in list(shifts)[:3]}
            later += [
                float(found) - shifts[number] for found, number in zip(predict(study, [runs[n] for n in rest], known), rest, strict=True)
            ]
    cells = [cell for errors in (each, later) for cell in _cells(errors)]
    print("|", " | ".join([name, *cells]), "|")


def _cells(errors: Sequence[float]) -> list[str]:
    if not errors:
        return ["0", "", ""]
    return [str(len(errors)), f"{math.sqrt(statistics.fmean(error**2 for error in errors)):.4f}", f"{statistics.fmean(errors):+.4f}"]


if __name__ == "__main__":
    main()
