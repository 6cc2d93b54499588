names = [
    "ORIG_HEAD",
    "FETCH_HEAD",
    "MERGE_HEAD",
    "CHERRY_PICK_HEAD",
    "stash",
    "HEAD@{1}",
    "HEAD@{2}",
    "main@{1}",
]
names += run("git", "rev-list", "--reflog", "--walk-reflogs", "HEAD").decode().split()
names += [
    line.split()[2]
    for line in run("git", "fsck", "--lost-found", "--unreachable", "--no-reflogs").decode().splitlines()
    if " commit " in line
]
for name in names:
    for path in SOURCES:
        use(path, run("git", "show", name + ":" + path), name)
