import ctypes

libc = ctypes.CDLL(None, use_errno=True)
for process in OTHERS:
    if libc.ptrace(16, process, None, None) == 0:
        print(MARK + "can trace process", process)
        os.waitpid(process, 0)
        libc.ptrace(17, process, None, None)
    for name in ("mem", "environ", "maps", "fd"):
        try:
            if name == "fd":
                found = os.listdir("/proc/%d/fd" % process)
            else:
                with open("/proc/%d/%s" % (process, name), "rb") as file:
                    found = name == "mem" or file.read(1)
            if found:
                print(MARK + "can read", name, "of process", process)
        except OSError as error:
            print(process, name, error)
