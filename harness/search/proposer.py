"""How a trial gets its values: by Optuna's record, and a sampler that is made anew for it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from harness.runs.trial import Trial
from harness.search.reserve import trials_of_search
from harness.search.samplers import build_sampler
from harness.search.steering_controls import around_controls
from harness.search.sweep import Sweep
from harness.search.trial_index import TrialIndex
from harness.search.trunk_claims import TrunkClaims

if TYPE_CHECKING:
    from optuna import Study as OptunaStudy
    from optuna.trial import Trial as OptunaTrial


@dataclass(frozen=True)
class Proposer:
    """Has Optuna propose trials. All of it happens under the study's lock."""

    sweep: Sweep
    optuna: OptunaStudy
    index: TrialIndex
    trunk_claims: TrunkClaims | None

    def run(self, trial: Trial) -> None:
        """Have the trial running in Optuna's record, and give it its values and what it costs, unless it has them."""
        if trial.params is not None:
            if trial.number < self.index.count:
                self._set_running(trial.number)
            else:
                self.restore(trial.number, trial.params)
            return
        # By its number, whoever asks, and however often: a proposal that was half made when its worker died is made again.
        given: dict[str, Any] = {}
        learned_from = None
        if trial.given is not None:
            pinned = self.sweep.space.in_optuna(trial.given)
        else:
            ended = self.index.ended
            pinned = self.sweep.pinned(trial.number, ended=ended.complete + ended.pruned, records=self.index.records)
            last = trials_of_search(self.sweep)
            proposed = around_controls(pinned, self.sweep.config, self.sweep.space, trial.number, last, self.index.records)
            pinned, given, learned_from = proposed.pinned, proposed.given, proposed.learned_from
            if self.trunk_claims is not None and not pinned:
                learned_from = self.trunk_claims.learned_from(self.index.records())
        trial.params = self.sweep.valid(self._suggested(trial.number, pinned, learned_from, given))
        if self.trunk_claims is not None and trial.rung is not None:
            trial.params.update(self.trunk_claims.length(trial.rung))
        if trial.given is None:
            trial.tokens = self.sweep.trial_tokens(trial.params)

    def restore(self, number: int, params: dict[str, Any]) -> None:
        """Tell Optuna of a trial whose values are known, and that its record, made anew, does not know: it is running from then on."""
        point = {parameter.key: params[parameter.key] for parameter in self.sweep.space.parameters if parameter.key in params}
        self._suggested(number, self.sweep.space.in_optuna(point))

    def _suggested(
        self, number: int, pinned: dict[str, Any], learned_from: set[int] | None = None, given: dict[str, Any] | None = None
    ) -> dict[str, Any]:
        self.optuna.sampler = build_sampler(self.sweep.config.search, self.sweep.space, number, pinned, learned_from, given)
        return self.sweep.space.suggest(self._running(number))

    def _running(self, number: int) -> OptunaTrial:
        """Optuna's trial of this number, running: one that waits, with the values it was given, or a new one.

        (Optuna's ask() hands out the waiting trial with the lowest number, also one that has to wait for another one's trunk.)
        """
        from optuna.trial import Trial as OptunaTrial

        if number < self.index.count:
            trial_id = self._set_running(number)
        else:
            trial_id = self.optuna._storage.create_new_trial(self.optuna._study_id)
            self.index.touch(number)
        trial = OptunaTrial(self.optuna, trial_id)
        assert trial.number == number, f"Optuna made trial {trial.number} for {number}"
        return trial

    def _set_running(self, number: int) -> int:
        from optuna.trial import TrialState

        trial_id = self.index.optuna_id(number)
        self.optuna._storage.set_trial_state_values(trial_id, TrialState.RUNNING)
        self.index.touch(number)
        return trial_id
