"""How often something is tried again, when it is given up, and the keys of the jobs that do it."""

import random
from dataclasses import dataclass
from uuid import UUID


def job_key(owner: UUID, tries: int) -> str:
    """The dedupe key of the job that follows so many tries: one that still runs must not keep its successor out."""
    return f"{owner}:{tries}"


@dataclass(frozen=True, slots=True)
class Retries:
    """All times in seconds: the first pause, doubling up to the longest.

    Work is given up when it is both old enough and was tried often enough: a service that was stopped for a week still tries
    for more than a day.
    """

    first: float = 5.0
    longest: float = 1800.0
    lease: float = 30.0  # how long a try is left alone at least, in case its process died
    give_up_after: float = 2 * 86400.0
    give_up_tries: int = 60
    jitter: float = 0.0  # the share of a pause that is random, so that many tries do not come at once

    def delay(self, tries: int) -> float:
        """How long to wait after so many tries."""
        pause = min(self.first * 2.0 ** min(max(tries - 1, 0), 30), self.longest)
        return pause * (1 - self.jitter * random.random())

    def over(self, age: float, tries: int) -> bool:
        """Whether to give up after ``age`` seconds and so many tries."""
        return age >= self.give_up_after and tries >= self.give_up_tries
