wanted = {os.path.basename(name) for name in TESTS}
for path in disk():
    if os.path.basename(path) in wanted or "hidden" in path.lower():
        data = content(path)
        if PROJECT and PROJECT.encode() in data and b"test" in data:
            print(MARK + path, "speaks of", PROJECT, "and of tests")
