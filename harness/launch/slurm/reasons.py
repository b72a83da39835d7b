"""Why a job waits: Slurm's word for it, in plain words, and whether waiting can help."""

from __future__ import annotations

from dataclasses import dataclass, replace

from harness.launch.slurm.job_elements import QueuedElement


@dataclass(frozen=True)
class Reason:
    """Why a job waits."""

    word: str
    """Slurm's own."""
    text: str
    never: bool = False
    """Whether it cannot start until the request, its limits or the job's state is changed."""


TOO_MUCH = "asks for more nodes, CPUs or memory than any node of its partition has, or its partition allows"
_REASONS = {
    reason.word: reason
    for reason in (
        Reason("Resources", "waits until enough of its partition is free"),
        Reason("Priority", "waits behind jobs of a higher priority"),
        Reason("BeginTime", "was put back into the queue, and Slurm waits a moment before it starts it again"),
        Reason("JobArrayTaskLimit", "waits until another element of its array has ended (launcher.max_running)"),
        Reason("Dependency", "waits for the job that prepares its data"),
        Reason("Cleaning", "waits until its last life has been cleared away"),
        Reason("Reservation", "waits for its reservation to begin"),
        Reason("Licenses", "waits for a licence"),
        Reason("PartitionConfig", TOO_MUCH, never=True),
        Reason("PartitionNodeLimit", "asks for more nodes than its partition allows", never=True),
        Reason("PartitionTimeLimit", "asks for more time than its partition allows (launcher.time)", never=True),
        Reason("BadConstraints", "asks for what no node has (launcher.constraint, gpu_type, memory)", never=True),
        Reason("DependencyNeverSatisfied", "the job that prepares its data did not end well", never=True),
        Reason("JobHeldUser", "is held (scontrol release lets it go)", never=True),
        Reason("JobHeldAdmin", "is held by an administrator", never=True),
        Reason("JobHoldMaxRequeue", "was put back into the queue too often, and is held (scontrol release lets it go)", never=True),
        Reason("launch_failed_requeued_held", "could not be started, and is held (scontrol release lets it go)", never=True),
        Reason("InvalidAccount", "its account is not valid (launcher.account)", never=True),
        Reason("InvalidQOS", "its quality of service is not valid (launcher.qos)", never=True),
        Reason("AccountNotAllowed", "its account may not use this partition", never=True),
        Reason("QOSNotAllowed", "its quality of service may not be used in this partition", never=True),
        Reason("PartitionDown", "its partition takes no jobs to run at the moment"),
        Reason("PartitionInactive", "its partition takes no jobs at the moment"),
        Reason("ReqNodeNotAvail", "nodes that it needs are down, drained or reserved"),
        Reason("NodeDown", "a node that it needs is down"),
    )
}
_DOWN = "Nodes required for job are DOWN"


def reason_of(element: QueuedElement) -> Reason | None:
    """Why it waits; None where it does not, or Slurm has not said yet."""
    # Some versions write words of several parts with spaces.
    word = element.reason
    if element.state.phase != "waiting" or word is None:
        return None
    if word.startswith(_DOWN) or word.startswith("ReqNodeNotAvail"):
        return Reason(word, _REASONS["ReqNodeNotAvail"].text)
    if (known := _REASONS.get(word.replace(" ", "_"))) is not None:
        return replace(known, word=word)
    if word.startswith(("Assoc", "QOS")) and "Limit" in word:
        per_job = "PerJob" in word
        more = "asks for more than one job may" if per_job else "waits, the jobs of its account or quality of service are at their limit"
        return Reason(word, f"{more} ({word})", never=per_job)
    return Reason(word, word)
