"""What a job's rules choose between."""

from enum import StrEnum


class Overlap(StrEnum):
    """What a slot comes to while a run of its job waits or goes on."""

    SKIP = "skip"
    QUEUE_ONE = "queue_one"
    QUEUE_ALL = "queue_all"
    CANCEL_RUNNING = "cancel_running"
    ALLOW = "allow"


class CatchUp(StrEnum):
    """Which of the slots that nobody was there for are run afterwards."""

    NONE = "none"
    LATEST = "latest"
    ALL = "all"


class OnCrash(StrEnum):
    """What becomes of a run whose server died: ended, begun anew, or gone on with in its own session."""

    FAIL = "fail"
    RETRY = "retry"
    RESUME = "resume"


class NotifyOn(StrEnum):
    """What somebody is told of."""

    FAILURE = "failure"
    RECOVERY = "recovery"
    MISSED = "missed"
    PAUSED = "paused"
    BUDGET = "budget"
    SUCCESS = "success"


class PausedBy(StrEnum):
    """Who or what paused a job."""

    OWNER = "owner"
    FAILURES = "failures"
    BUDGET = "budget"
    COST_BREAKER = "cost_breaker"
