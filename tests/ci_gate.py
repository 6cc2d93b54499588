"""A pytest plugin for CI (`-p tests.ci_gate`): what needs a real component must have met it.

On a developer's machine a test may skip where Docker or bubblewrap is missing. In CI a skip would hide
the component, so a run fails when a marked test was skipped, or when none with that marker ran.
"""

from __future__ import annotations

import pytest

REQUIRED = ("docker", "bubblewrap", "train")


class Gate:
    """Counts, for each required marker, the tests that ran and those that were skipped."""

    def __init__(self) -> None:
        self.ran: dict[str, set[str]] = {marker: set() for marker in REQUIRED}
        self.skipped: dict[str, set[str]] = {marker: set() for marker in REQUIRED}
        self.skipped_files: list[str] = []

    def complaints(self) -> list[str]:
        """Return one line for each way in which a real component was not met."""
        lines = [f"{path} was skipped as a whole" for path in self.skipped_files]
        for marker in REQUIRED:
            if self.skipped[marker]:
                names = ", ".join(sorted(self.skipped[marker])[:3])
                lines.append(f"{len(self.skipped[marker])} tests marked {marker} were skipped: {names}")
            if not self.ran[marker]:
                lines.append(f"no test marked {marker} ran")
        return lines

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        if report.skipped:
            self.skipped_files.append(report.nodeid)

    @pytest.hookimpl(tryfirst=True)
    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        for (
            item
        ) in items:  # in a report, because that travels from a process of pytest-xdist to the one that counts
            needed = {mark.name for mark in item.iter_markers()} & set(REQUIRED)
            item.user_properties.append(("needs", sorted(needed)))

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        for marker in dict(report.user_properties).get("needs", ()):
            if report.skipped and not hasattr(report, "wasxfail"):
                self.skipped[marker].add(report.nodeid)
            elif report.when == "call":
                self.ran[marker].add(report.nodeid)

    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        if hasattr(session.config, "workerinput"):
            return  # a process of pytest-xdist sees a part of the tests only
        passing = (pytest.ExitCode.OK, pytest.ExitCode.NO_TESTS_COLLECTED)
        if self.complaints() and session.exitstatus in passing:
            session.exitstatus = pytest.ExitCode.TESTS_FAILED

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        terminalreporter.section("real components")
        for marker in REQUIRED:
            terminalreporter.write_line(
                f"{marker}: {len(self.ran[marker])} ran, {len(self.skipped[marker])} skipped"
            )
        for line in self.complaints():
            terminalreporter.write_line(f"ci gate: {line}", red=True)


def pytest_configure(config: pytest.Config) -> None:
    config.pluginmanager.register(Gate(), "daythree-ci-gate")
