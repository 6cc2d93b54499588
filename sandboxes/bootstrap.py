"""The bootstrap of a sandbox: the command that starts Python inside, and the program sent to it."""

from __future__ import annotations

import json
import struct
from functools import cache
from importlib.resources import files

MODULES = (
    *("identity", "frames", "starting", "spawning", "template", "forking", "limits", "processes", "files"),
    *("trees", "commands", "search", "server", "scrubbing", "keeper"),
)
"""In the order of their imports; the last one is run."""

BOOTSTRAP = """\
import json, os, sys, types
def take(count):
    data = b""
    while len(data) < count:
        part = os.read(0, count - len(data))
        if not part:
            os._exit(1)
        data += part
    return data
size = take(4)
text = take(int.from_bytes(size, "big"))
sys.modules["inside"] = package = types.ModuleType("inside")
package.__path__ = []
for name, source in json.loads(text):
    module = types.ModuleType("inside." + name)
    module.__package__ = "inside"
    sys.modules[module.__name__] = module
    exec(compile(source, "<" + module.__name__ + ">", "exec"), module.__dict__)
module.main(size + text, sys.argv[1:])
"""
DEFAULT_SETTINGS = {"template": [], "processes": 0, "memory": 0, "owned": [], "user_namespaces": True}
SERVER_COMMAND = ("python3", "-I", "-S", "-u", "-c", BOOTSTRAP)
"""Command of a sandbox's first process."""


@cache
def server_program() -> bytes:
    """Return the server's modules in import order, prefixed with their total length."""
    package = files("sandboxes.inside")
    text = json.dumps([[name, package.joinpath(f"{name}.py").read_text("utf-8")] for name in MODULES])
    return struct.pack(">I", len(text)) + text.encode("ascii")
