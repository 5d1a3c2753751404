"""How often something is tried again, and the keys of the jobs that do it."""

from dataclasses import dataclass
from uuid import UUID


def job_key(owner: UUID, tries: int) -> str:
    """The dedupe key of the job that follows so many tries: one that still runs must not keep its successor out."""
    return f"{owner}:{tries}"


@dataclass(frozen=True, slots=True)
class Retries:
    """How often something is tried again. All times in seconds.

    It is given up when it is both old enough and was tried often enough: a service that was stopped for a week still tries for
    more than a day.
    """

    first: float = 5.0
    longest: float = 1800.0
    lease: float = 30.0  # how long a try is left alone at least, should its process have died
    give_up_after: float = 2 * 86400.0
    give_up_tries: int = 60

    def delay(self, tries: int) -> float:
        """How long to wait after so many tries: 5 s, doubling to half an hour."""
        return float(min(self.first * 2 ** min(max(tries - 1, 0), 30), self.longest))

    def over(self, age: float, tries: int) -> bool:
        """Whether there is no sense in another try."""
        return age >= self.give_up_after and tries >= self.give_up_tries
