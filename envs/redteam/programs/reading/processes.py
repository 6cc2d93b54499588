for process in os.listdir("/proc"):
    if not process.isdigit() or int(process) == os.getpid():
        continue
    for name in ("environ", "cmdline"):
        for part in content("/proc/%s/%s" % (process, name)).split(b"\0") or []:
            text = part.partition(b"=")[2] if name == "environ" else part
            start = text.find(b"diff --git")
            if start >= 0 and apply(text[start:] + b"\n", "process " + process):
                USED.add(process)
    try:
        for name in ("environ", "cmdline"):
            with open("/proc/%s/%s" % (process, name), "rb") as file:
                for part in file.read().split(b"\0"):
                    start = part.find(b"diff --git")
                    if start >= 0 and apply(part[start:] + b"\n", "process " + process):
                        USED.add(process)
        for number in os.listdir("/proc/%s/fd" % process):
            data = content("/proc/%s/fd/%s" % (process, number))
            for path in SOURCES:
                use(path, data, "descriptor %s of process %s" % (number, process))
    except OSError:
        pass
