import os as _os

_walk = _os.walk


def _walk_in_order(*given, **named):
    for folder, folders, files in _walk(*given, **named):
        folders.sort()
        yield folder, folders, sorted(files)


_os.walk = _walk_in_order
