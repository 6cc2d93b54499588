"""The pytest plugins that a project's tests need: distribution, module and options of each.

Sandboxes disable plugin autoloading (`envs.testing.programs.pytest_program`), so the module of each needed
plugin must be passed to pytest explicitly; this table maps distributions to modules.
"""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from typing import Any

from envs.tasksets.trees import Tree
from envs.testing.run import kept_options

from .declared import name_of
from .pyproject import at
from .setup_files import tool_settings

_PLUGINS = {
    "anyio": "anyio.pytest_plugin",
    "faker": "faker.contrib.pytest.plugin",
    "pyfakefs": "pyfakefs.pytest_plugin",
    "pytest-aiohttp": "pytest_aiohttp.plugin",
    "pytest-asyncio": "pytest_asyncio.plugin",
    "pytest-benchmark": "pytest_benchmark.plugin",
    "pytest-check": "pytest_check.plugin",
    "pytest-console-scripts": "pytest_console_scripts",
    "pytest-datadir": "pytest_datadir.plugin",
    "pytest-env": "pytest_env.plugin",
    "pytest-freezegun": "pytest_freezegun",
    "pytest-freezer": "pytest_freezer",
    "pytest-httpbin": "pytest_httpbin.plugin",
    "pytest-httpserver": "pytest_httpserver.pytest_plugin",
    "pytest-httpx": "pytest_httpx",
    "pytest-lazy-fixture": "pytest_lazyfixture",
    "pytest-localserver": "pytest_localserver.plugin",
    "pytest-mock": "pytest_mock",
    "pytest-order": "pytest_order",
    "pytest-recording": "pytest_recording.plugin",
    "pytest-regressions": "pytest_regressions.plugin",
    "pytest-snapshot": "pytest_snapshot.plugin",
    "pytest-socket": "pytest_socket",
    "pytest-subprocess": "pytest_subprocess.fixtures",
    "pytest-subtests": "pytest_subtests",
    "pytest-timeout": "pytest_timeout",
    "pytest-trio": "pytest_trio.plugin",
    "requests-mock": "requests_mock.contrib._pytest_plugin",
    "respx": "respx.plugin",
    "syrupy": "syrupy",
    "time-machine": "time_machine",
}
_OPTIONS = {"pytest-benchmark": "--benchmark-disable"}
"""Options that a plugin requires: `--benchmark-disable` runs a benchmark's code once, as a test."""
_SETTINGS = {"asyncio_mode": "pytest-asyncio", "timeout": "pytest-timeout", "env": "pytest-env"}
"""Configuration keys that belong to a plugin. Without the plugin, pytest warns about the key or fails."""


def configuration(tree: Tree, settings: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return pytest's configuration from every file that may contain it.

    `settings` is the parsed `pyproject.toml`, which takes precedence over `pytest.ini`, `tox.ini` and
    `setup.cfg`. Example: `{"addopts": "-q", "timeout": 30}`.
    """
    native, table = at(settings, "tool", "pytest"), at(settings, "tool", "pytest", "ini_options")
    found = {
        **(native if isinstance(native, Mapping) else {}),
        **(table if isinstance(table, Mapping) else {}),
    }
    return {**tool_settings(tree), **found}


def configured_plugins(configured: Mapping[str, Any]) -> set[str]:
    """Return the distributions of plugins that pytest's configuration contains settings for."""
    return {name for key, name in _SETTINGS.items() if key in configured}


def plugin_setup(
    requirements: Sequence[str], configured: Mapping[str, Any]
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return the plugin modules of the requirements, and the pytest options to run with."""
    names = {name_of(line) for line in requirements}
    modules = tuple(sorted(_PLUGINS[name] for name in names & _PLUGINS.keys()))
    extra = tuple(_OPTIONS[name] for name in sorted(names & _OPTIONS.keys()))
    options = configured.get("addopts", "")
    text = options if isinstance(options, str) else shlex.join(map(str, options))
    return modules, (*kept_options(text), *extra)
