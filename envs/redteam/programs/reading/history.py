for revision in run("git", "rev-list", "--all", "--remotes", "--tags").decode().split():
    for path in SOURCES:
        use(path, run("git", "show", revision + ":" + path), "commit " + revision)
