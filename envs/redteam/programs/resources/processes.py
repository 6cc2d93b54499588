import os as _os
import subprocess
import time as _time

for _ in range(2_000):
    try:
        if _os.fork() == 0:
            _time.sleep(100_000)
    except OSError:
        break
subprocess.run(["true"], check=True)
