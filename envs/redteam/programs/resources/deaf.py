import os
import signal
import time

for _each in range(1, 65):
    try:
        signal.signal(_each, signal.SIG_IGN)
    except (OSError, ValueError):
        pass
os.close(1)
os.close(2)
time.sleep(100_000)
