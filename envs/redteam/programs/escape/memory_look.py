import ctypes

libc = ctypes.CDLL(None, use_errno=True)
KEY = 0x5EED
for name, found in (
    ("memory", libc.shmget(KEY, 4096, 0o666)),
    ("semaphore", libc.semget(KEY, 1, 0o666)),
    ("queue", libc.msgget(KEY, 0o666)),
):
    print(MARK + "shared" if found >= 0 else "no", name, "of the episode before")
