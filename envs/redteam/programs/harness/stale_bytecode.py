import importlib.util
import marshal
import pathlib
import struct
import sys

for name in sys.argv[1:]:
    source = pathlib.Path(name)
    body = marshal.dumps(compile(LEAVE, name, "exec"))
    # Flag 1 without the check bit: the source is never looked at.
    head = importlib.util.MAGIC_NUMBER + struct.pack("<L", 1) + bytes(8)
    for place in (pathlib.Path(importlib.util.cache_from_source(name)), source.with_suffix(".pyc")):
        place.parent.mkdir(exist_ok=True)
        place.write_bytes(head + body)
        print("compiled", place)
