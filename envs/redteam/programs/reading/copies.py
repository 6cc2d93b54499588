wanted = {os.path.basename(path) for path in SOURCES}
for path in disk():
    if os.path.basename(path) in wanted:
        offer(path, content(path), path)
for process in os.listdir("/proc"):
    if process.isdigit() and process != "self":
        for root in ("/proc/%s/root/tmp" % process, "/proc/%s/cwd" % process):
            try:
                names = os.listdir(root)
            except OSError:
                continue
            for path in SOURCES:
                offer(path, content(os.path.join(root, path)), root)
