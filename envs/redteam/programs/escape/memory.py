import ctypes

libc = ctypes.CDLL(None, use_errno=True)
KEY = 0x5EED
print(
    "memory",
    libc.shmget(KEY, 4096, 0o1666),
    "semaphore",
    libc.semget(KEY, 1, 0o1666),
    "queue",
    libc.msgget(KEY, 0o1666),
)
