"""A program that prints the names under which installed distributions are imported, as a JSON list.

The names come from the distributions' own records: of every Python file the outermost package or module that
is imported as a whole, `hamcrest` or, where the folder above is shared, `google.protobuf`.
"""

import json
import sys

try:
    from importlib import metadata
except ImportError:  # before Python 3.8
    metadata = None

ENDINGS = (".py", ".so", ".pyd")


def names_of(distribution):
    files = [str(file) for file in distribution.files or ()]
    packages = {file[: -len("/__init__.py")] for file in files if file.endswith("/__init__.py")}
    for file in files:
        folders = file.split("/")[:-1]
        above = ["/".join(folders[: end + 1]) for end in range(len(folders))]
        if file.endswith(ENDINGS) and not set(folders) & {"..", "bin", ""} and "-" not in "".join(folders):
            whole = [folder for folder in above if folder in packages]
            module = "/".join([*folders, file.split("/")[-1].split(".")[0]])
            yield (whole[0] if whole else module).replace("/", ".")
    if not files:
        yield from (distribution.read_text("top_level.txt") or "").split()


if __name__ == "__main__":
    found = set()
    for distribution in metadata.distributions() if metadata else ():
        found.update(names_of(distribution))
    sys.stdout.write(json.dumps(sorted(found)))
