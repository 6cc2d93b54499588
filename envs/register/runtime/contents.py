"""Digest and list the distributions of an environment's folder, the same on every machine.

Runs on this machine and, sent as text, inside a sandbox: only the standard library, Python 3.9 and later.

    python3 -c SOURCE FOLDER     prints {"digest": str, "distributions": [str]}
"""

from __future__ import annotations

import hashlib
import json
import os
import sys
from email.parser import HeaderParser
from pathlib import Path

NOT_COUNTED = ("RECORD", "INSTALLER", "REQUESTED", "direct_url.json")
"""Written by the installer about itself, inside `*.dist-info`."""


def contents(folder: str) -> dict:
    """Return the installed distributions, `name==version`, and a SHA-256 over paths and bytes of all files.

    Bytecode is excluded, and so are the scripts in `bin`, which contain the path of the installing Python.
    File times, owners and modes do not affect the digest.
    """
    total = hashlib.sha256()
    distributions = []
    for path in sorted(files(folder)):
        data = Path(folder, path).read_bytes()
        total.update(f"{path}\0{hashlib.sha256(data).hexdigest()}\n".encode())
        if path.endswith(".dist-info/METADATA"):
            headers = HeaderParser().parsestr(data.decode("utf-8", "replace"), headersonly=True)
            distributions.append(f"{headers['Name']}=={headers['Version']}")
    return {"digest": total.hexdigest(), "distributions": sorted(distributions, key=str.lower)}


def files(folder: str):
    for place, folders, names in os.walk(folder):
        inside = os.path.relpath(place, folder)
        folders[:] = [name for name in folders if name != "__pycache__" and (inside, name) != (".", "bin")]
        for name in names:
            counted = not (inside.endswith(".dist-info") and name in NOT_COUNTED)
            if counted and not name.endswith((".pyc", ".pyo")):
                yield name if inside == "." else f"{inside}/{name}"


if __name__ == "__main__":
    sys.stdout.write(json.dumps(contents(sys.argv[1])) + "\n")
