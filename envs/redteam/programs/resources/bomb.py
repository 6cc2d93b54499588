import os
import time

made = 0
for _ in range(3000):
    try:
        if os.fork() == 0:
            os.setsid()
            time.sleep(600)
            os._exit(0)
        made += 1
    except OSError as error:
        print(error)
        break
print(made, "processes")
