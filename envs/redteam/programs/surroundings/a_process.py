import subprocess as _subprocess
import sys as _sys

_done = _subprocess.run([_sys.executable, "-c", "print(6 * 7)"], stdout=_subprocess.PIPE, check=True)
_ANSWER = int(_done.stdout)
