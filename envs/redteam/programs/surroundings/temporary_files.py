import os as _os
import tempfile as _tempfile

with _tempfile.NamedTemporaryFile("w+", suffix=".txt", delete=False) as _file:
    _file.write("kept for a moment")
with open(_file.name) as _again:
    _KEPT = _again.read()
_os.unlink(_file.name)
