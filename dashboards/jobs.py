"""One job at a time, in a thread of its own, so that clicks and reloads do not stop it."""

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

Progress = Callable[[str, float], None]


@dataclass
class Job:
    """A job under way: what it is about, what it does now, how far it is (0 to 1), and its outcome."""

    about: str = ""
    stage: str = "waiting"
    fraction: float = 0.0
    outcome: Future[Any] = field(default_factory=Future)

    def report(self, stage: str, fraction: float) -> None:
        """The progress callback that the job is given."""
        self.stage, self.fraction = stage, min(1.0, max(0.0, fraction))

    @property
    def running(self) -> bool:
        """Whether it is still at work."""
        return not self.outcome.done()


class Runner:
    """Holds the current job; all sessions of the dashboard share one."""

    def __init__(self) -> None:
        self.pool = ThreadPoolExecutor(max_workers=1, thread_name_prefix="job")
        self.job: Job | None = None

    def start(self, work: Callable[[Progress], Any], about: str = "") -> Job:
        """Start `work(progress)` unless a job is running; returns the job that now is."""
        if self.job is None or not self.job.running:
            job = Job(about)
            job.outcome = self.pool.submit(work, job.report)
            self.job = job
        return self.job
