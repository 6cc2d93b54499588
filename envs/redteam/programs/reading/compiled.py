import marshal

for path in disk(("/proc", "/sys")):
    name = os.path.basename(path).partition(".")[0] + ".py"
    for source, data in SOURCES.items():
        if not path.endswith(".pyc") or os.path.basename(source) != name or not data:
            continue
        try:
            found = marshal.loads(content(path)[16:])
            mine = compile(data, found.co_filename, "exec")
        except (ValueError, EOFError, TypeError, SyntaxError):
            continue
        if set(found.co_names) & set(mine.co_names) and found != mine and found.co_filename.endswith(source):
            print(MARK + path, "was compiled from another version of", source)
