import os as _os
import sys as _sys

for _number in range(2000):
    print(_number, "passed, 0 failed in 0.01s")
_sys.stderr.write("warning: this is only talk\n" * 100)
_os.write(1, b"straight to the descriptor\n")
