"""What the doctor found, for people and for machines."""

from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from enum import StrEnum

import orjson


class State(StrEnum):
    """How one check ended; a warning does not change the exit status."""

    OK = "ok"
    WARNING = "warning"
    FAILED = "failed"
    SKIPPED = "skipped"


@dataclass(frozen=True, slots=True)
class Finding:
    """One check: what was found and, if all is not well, what it means and what to do. Never holds a secret."""

    check: str
    state: State
    found: str
    meaning: str = ""
    remedy: str = ""


def ok(check: str, found: str) -> Finding:
    """All is well with ``check``."""
    return Finding(check, State.OK, found)


def failed(check: str, found: str, meaning: str, remedy: str) -> Finding:
    """The service cannot do its work."""
    return Finding(check, State.FAILED, found, meaning, remedy)


def warning(check: str, found: str, meaning: str, remedy: str) -> Finding:
    """The service works, and something may surprise later."""
    return Finding(check, State.WARNING, found, meaning, remedy)


def skipped(check: str, why: str) -> Finding:
    """The check cannot be made here or not yet. It is no failure: what it needs is a finding of its own if it is missing."""
    return Finding(check, State.SKIPPED, why)


@dataclass(slots=True)
class Report:
    """All findings, in the order in which they were made."""

    findings: list[Finding] = field(default_factory=list)

    def add(self, findings: Iterable[Finding]) -> bool:
        """Take the findings of one part; false if one of them failed."""
        new = list(findings)
        self.findings += new
        return all(finding.state is not State.FAILED for finding in new)

    @property
    def well(self) -> bool:
        """Whether no check failed."""
        return self.count(State.FAILED) == 0

    def count(self, *states: State) -> int:
        """How many checks ended in one of these states."""
        return sum(finding.state in states for finding in self.findings)

    @property
    def counts(self) -> dict[str, int]:
        """How many checks ended in each state; each is counted once."""
        return {
            "passed": self.count(State.OK),
            "warned": self.count(State.WARNING),
            "skipped": self.count(State.SKIPPED),
            "failed": self.count(State.FAILED),
        }

    def summary(self) -> str:
        """The counts on a line, such as ``11 passed, 1 warned, 2 skipped, 0 failed``, and the verdict on the next."""
        counts = self.counts
        line = ", ".join(f"{number} {state}" for state, number in counts.items())
        verdict = "all is well" if self.well else f"{counts['failed']} of {len(self.findings)} checks need attention"
        return f"{line}\n{verdict}"

    def json(self) -> str:
        """``{"ok": bool, "counts": {passed, warned, skipped, failed}, "checks": [{check, state, found, meaning, remedy}]}``."""
        document = {"ok": self.well, "counts": self.counts, "checks": [asdict(finding) for finding in self.findings]}
        return orjson.dumps(document, option=orjson.OPT_INDENT_2).decode()


def text(finding: Finding) -> str:
    """A finding as a person reads it, one to three lines."""
    lines = [f"{finding.state.upper():8} {finding.check}: {finding.found}"]
    if finding.meaning:
        lines.append(f"         it means: {finding.meaning}")
    if finding.remedy:
        lines.append(f"         do: {finding.remedy}")
    return "\n".join(lines)
