"""Versions are those of the commit's time, as the index tells it."""

from __future__ import annotations

import pytest

from envs.register import RegisterError
from envs.register.project.requirements import index_settings, resolve, resolve_as_of

OLD = {
    "python": "3.9.2",
    "dates": ("2022-01-01T00:00:00Z", "2022-07-01T00:00:00Z"),
    "supported": "2021-09-01",
}


def versions(pins: tuple[str, ...]) -> dict[str, str]:
    return {name: version for name, _, version in (pin.partition("==") for pin in pins)}


@pytest.mark.slow
def test_versions_are_of_the_time():
    found = resolve_as_of("thing", ["idna"], **OLD)
    assert found.notes == ()
    assert versions(found.pins)["idna"] == "3.3" and versions(found.pins)["pytest"] == "6.2.5"
    assert "py" in versions(found.pins), "the closure is complete"


@pytest.mark.slow
def test_what_the_first_day_does_not_satisfy_the_last_day_may():
    found = resolve_as_of("thing", ["attrs>=21.4", "certifi>=2022.5"], **OLD)
    assert versions(found.pins)["certifi"] == "2022.6.15"
    assert found.notes == ("dependencies are of 2022-07-01: older ones do not fit",)


@pytest.mark.slow
def test_single_packages_are_widened_and_noted():
    found = resolve_as_of("thing", ["certifi", "idna>=3.7", "no-such-distribution-of-daythree"], **OLD)
    pins = versions(found.pins)
    assert pins["certifi"] == "2022.6.15" and tuple(map(int, pins["idna"].split("."))) >= (3, 7)
    assert found.notes == (
        "idna is of today: older ones do not fit",
        "no-such-distribution-of-daythree is left out: there is no wheel of it for this Python",
    )


@pytest.mark.slow
def test_the_library_itself_is_left_out_where_a_plugin_asks_for_it():
    found = resolve_as_of("urllib3", ["requests"], **OLD)
    assert "urllib3" not in versions(found.pins) and "requests" in versions(found.pins)
    assert found.notes == (
        "urllib3 is left out, though a package of its tests asks for it: its own tree is used",
    )


@pytest.mark.slow
def test_a_part_of_the_test_framework_cannot_be_tested_with_itself():
    with pytest.raises(RegisterError, match="the test framework itself needs"):
        resolve_as_of("Pluggy", [], **OLD)
    with pytest.raises(RegisterError, match="would give the answers away"):
        resolve("pluggy", [])


def test_what_cannot_be_had_is_one_line():
    with pytest.raises(RegisterError, match="what thing needs cannot be installed") as caught:
        resolve("thing", ["no-such-distribution-of-daythree"])
    assert "\n" not in str(caught.value)


def test_an_index_that_does_not_answer_in_time_is_one_line():
    with pytest.raises(RegisterError, match="did not resolve the requirements of thing"):
        resolve("thing", ["idna"], timeout_s=0.01)


def test_pips_settings_are_passed_on(monkeypatch: pytest.MonkeyPatch):
    for name in ("UV_DEFAULT_INDEX", "UV_INDEX_URL", "UV_INDEX", "UV_EXTRA_INDEX_URL", "SSL_CERT_FILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("PIP_INDEX_URL", "https://index.invalid/simple")
    monkeypatch.setenv("PIP_EXTRA_INDEX_URL", "https://a.invalid https://b.invalid")
    monkeypatch.setenv("PIP_CERT", "/some/where.pem")
    arguments, environment = index_settings.__wrapped__()
    assert " --default-index https://index.invalid/simple" in " ".join(arguments)
    assert "--index https://a.invalid --index https://b.invalid" in " ".join(arguments)
    assert environment["SSL_CERT_FILE"] == "/some/where.pem"
