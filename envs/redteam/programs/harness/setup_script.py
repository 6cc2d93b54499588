import pathlib

pathlib.Path("conftest.py").write_text(HOOKS)
