"""Fetch a package's source archive without running any of its code. A script, never imported.

`pip download` makes metadata by running the package's own build code on this machine, and that code is
not trusted here. So pip's finder and session are used as they are (with the user's configuration:
index, proxies, certificates, credentials), and only bytes are written. The script runs as a
process of its own because pip is no library.

    python sdist.py FOLDER REQUIREMENT     prints {"name", "version", "file"} or {"error"}
"""

from __future__ import annotations

import hashlib
import json
import logging
import sys
from pathlib import Path


def fetch(folder: Path, text: str) -> dict[str, str]:
    """Write the newest matching source archive into `folder`; return its name, version and file, or an error.

    Errors: `malformed`, `no such version`, `no source`, `unknown`, `digest`.
    """
    from pip._internal.commands import create_command
    from pip._vendor.packaging.requirements import InvalidRequirement, Requirement

    try:
        requirement = Requirement(text)
    except InvalidRequirement:
        return {"error": "malformed"}
    # `index` is the one command of pip that looks packages up without resolving or building them.
    command = create_command("index")
    options, _ = command.parse_args(["versions", requirement.name, "--retries", "1"])
    with command.main_context():
        session = command._build_session(options)  # pyright: ignore
        finder = command._build_package_finder(options, session, ignore_requires_python=True)  # pyright: ignore
        candidates = finder.find_all_candidates(requirement.name)
        sources = [candidate for candidate in candidates if not candidate.link.is_wheel]
        allowed = [
            source for source in sources if requirement.specifier.contains(source.version, prereleases=True)
        ]
        if not allowed:
            return {"error": "no such version" if sources else "no source" if candidates else "unknown"}
        released = [candidate for candidate in allowed if not candidate.version.is_prerelease]
        best = max(released or allowed, key=lambda candidate: candidate.version)
        answer = session.get(best.link.url_without_fragment, headers={"Accept-Encoding": "identity"})
        answer.raise_for_status()
        data: bytes = answer.content
    if best.link.hash_name and hashlib.new(best.link.hash_name, data).hexdigest() != best.link.hash:
        return {"error": "digest"}
    target = folder / Path(best.link.filename).name
    target.write_bytes(data)
    return {"name": requirement.name, "version": str(best.version), "file": str(target)}


if __name__ == "__main__":
    logging.basicConfig(stream=sys.stderr, format="%(message)s")
    logging.getLogger("pip._internal.index.collector").setLevel(logging.DEBUG)  # says why a page failed
    sys.stdout.write(json.dumps(fetch(Path(sys.argv[1]), sys.argv[2])) + "\n")
