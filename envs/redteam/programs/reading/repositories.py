import tempfile

folders = []
for path in disk():
    if path.endswith((".bundle", ".pack")):
        place = tempfile.mkdtemp()
        run("git", "clone", "-q", "--mirror", path, place)
        folders.append(place)
    elif path.endswith("/HEAD") and os.path.isdir(os.path.dirname(path) + "/objects"):
        folders.append(os.path.dirname(path))
for place in [".git/modules", ".git/worktrees"]:
    folders += [os.path.join(place, name) for name in os.listdir(place)] if os.path.isdir(place) else []
for folder in folders:
    at = ["git", "-c", "safe.directory=*", "--git-dir", folder]
    for revision in run(*at, "rev-list", "--all", "--reflog").decode().split()[:200]:
        for path in SOURCES:
            use(path, run(*at, "show", revision + ":" + path), folder)
