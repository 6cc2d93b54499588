"""Random episodes of hostile and clumsy agents: odd tool calls, and shell commands from a grammar.

An episode follows from its seed and its number alone. Commands are of two kinds: those that leave the code as
it is, so that an episode that also mends the bug has earned its reward, and those that may spoil it.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from random import Random
from typing import Any

from envs.types import ToolCall

from .task import FILE, RIGHT, TEST_FILE, WRONG

FIX = ToolCall("fix", "edit", {"path": FILE, "old": WRONG.strip(), "new": RIGHT.strip()})
SUBMIT = ToolCall("end", "submit", {})

NAMES = (
    *b"a -rf ~ *?[x CON %s%n ..x x.pyc x.PY conftest.py json.py test_x.py setup.cfg __pycache__".split(),
    *b"pyproject.toml x.egg-info node_modules".split(),
    *(b"a b", b"tab\tx", b"line\nx", b"quote\"'x", b"back\\x", b"\xffx", b"\x01\x7fx", b"n" * 255),
    *(b"\xc3\xa9", b"\xe2\x80\xa8x", b"\xf0\x9f\x99\x82"),
)
DATA = (
    *(b"", b"x = 1\n", b"no newline", b"crlf\r\nx\r\n", b"\0\1\2", b"caf\xe9\n", b"\xff\xfea\0\n\0"),
    *(b"\x7fELF", b"\xef\xbb\xbfx\n", b"\xe2\x80\xa8\xc2\x85\n", b"GIT binary patch\n", b"[" * 3000),
    b"--- a/x\n+++ b/x\n@@ -1 +1 @@\n",
)
SIZES = (0, 1, 4095, 65_536, 1 << 20, (1 << 20) + 1, 9 << 20, 200 << 20)
MODES = ["000", "111", "222", "444", "555", "700", "755", "777", "4755", "1777"]
TARGETS = f"/etc/passwd / . .. nowhere /dev/zero /proc/self/fd/1 {FILE} junk /proc/1/root".split()
PLACES = f"{FILE} basket tests {TEST_FILE} README.md pyproject.toml . .git /tmp".split()
SIGNALS = ["TERM", "KILL", "HUP", "INT", "USR1", "SEGV", "ABRT", "PIPE", "CHLD", "CONT", "WINCH"]
TEXTS = (
    *(
        "",
        " ",
        "x",
        "..",
        "/",
        "\n",
        "\0",
        "\r\n",
        "é🙂\u2028",
        "\ud83d",
        "x" * 50_000,
        "(a+)+$",
        "[",
        "--help",
    ),
)
ODD = (None, True, 0, -1, 1, 10**30, 1.5, float("nan"), [], [[]], {}, {"x": {"y": []}})
TOOLS = ("view", "edit", "search", "prs", "test", "shell", "submit ", "Edit", "", "os.system", "x" * 500)
ARGUMENTS = (
    *("path", "start", "end", "new", "old", "line", "insert_line", "create", "query", "kind", "glob"),
    *("search", "read", "target", "command", "", "__class__"),
)
REPORT = "import os, json\nfd = int(os.environ.get('DAYTHREE_REPORT_FD', 1))\n"
KINDS = ("session", "collected", "start", "phase", "finish", "failure", "watch", "end", "plugins", "x")


@dataclass(frozen=True)
class Planned:
    """The calls of an episode before its submission."""

    calls: tuple[ToolCall, ...]
    spoils: bool
    """Whether the calls may touch the repository's code, so that even a right fix may earn nothing."""


def plan(seed: int, number: int) -> Planned:
    """Draw an episode: half of them mend the bug; four in ten, mending or not, may touch the code."""
    random = Random(f"{seed}/{number}")
    spoils = random.random() < 0.4
    calls = [_call(random, spoils) for _ in range(random.randint(1, 8))]
    if random.random() < 0.5:
        calls.insert(random.randint(0, len(calls)), FIX)
    return Planned(tuple(calls), spoils)


def _call(random: Random, spoils: bool) -> ToolCall:
    if random.random() < 0.3:
        return _odd_call(random)
    made = [random.choice(_SPOILING if spoils and random.random() < 0.6 else _OWN)(random) for _ in range(3)]
    commands = [_joined(random, command) for command in made[: random.randint(1, 3)]]
    return ToolCall("c", "shell", {"command": "\n".join(["mkdir -p junk", *commands])})


def _joined(random: Random, command: str) -> str:
    """Run a command as it is, in the background, in a pipe, or as the last of a subshell."""
    form = random.choice(("{}", "{}", "{}", "(\n{}\n) &", "(\n{}\n) | cat", "(cd junk\n{}\n)"))
    return form.format(command)


def _odd_call(random: Random) -> ToolCall:
    """Draw a call with arguments of any kind, on files other than the code."""
    names = random.sample(ARGUMENTS, random.randint(0, 4))
    arguments: dict[str, Any] = {name: random.choice((*ODD, *TEXTS, "basket", FILE)) for name in names}
    tool = random.choice(TOOLS)
    if tool == "edit":
        arguments["path"] = random.choice([f"junk/{_shown(random)}", *TEXTS, "/etc/x", "/dev/full", ".git/x"])
    if tool == "shell":
        arguments["command"] = random.choice(TEXTS)
    return ToolCall("c", tool, arguments)


def _shown(random: Random) -> str:
    return random.choice(NAMES).decode("utf-8", "replace")


def _word(data: bytes) -> str:
    """Return a shell word of bytes; a NUL is no part of any word, nor is a last newline."""
    return "\"$(printf '" + "".join(f"\\{byte:03o}" for byte in data) + "')\""


def _name(random: Random) -> str:
    parts = [random.choice(NAMES) for _ in range(random.choice((1, 1, 1, 2, 3)))]
    return "junk/" + "/".join(map(_word, parts))


def _written(random: Random) -> str:
    name = _name(random)
    octal = "".join(f"\\{byte:03o}" for byte in random.choice(DATA))
    return f"mkdir -p \"$(dirname -- {name})\"; printf '{octal}' > {name}"


def _many(random: Random) -> str:
    count, size = random.choice((30, 30, 30, 1200, 3000)), random.choice((0, 10, 9000))
    return f"python3 -c \"for n in range({count}): open(f'junk/f{{n}}', 'w').write('x' * {size})\""


def _lines(templates: str) -> Callable[[Random], str]:
    """Return a maker of commands from templates, one a line, whose fields are drawn each time."""

    def make(random: Random) -> str:
        fields = {
            "name": _name(random),
            "other": _name(random),
            "size": random.choice(SIZES),
            "mode": random.choice(MODES),
            "target": random.choice(TARGETS),
            "signal": random.choice(SIGNALS),
            "place": random.choice(PLACES),
            "text": "".join(f"\\{byte:03o}" for byte in random.choice(DATA)),
            "code": FILE,
            "tests": TEST_FILE,
            "count": random.choice((3, 50, 400)),
            "n": random.choice((0, 1, 3, 64, 255)),
            "number": random.choice((1, 2, 6, 9, 11, 13, 15)),
        }
        return random.choice(templates.strip().split("\n")).format(**fields)

    return make


_FILES = _lines("""
truncate -s {size} {name}
mkdir -p {name}
rm -rf {name}
rm -rf junk
mkfifo {name}
chmod {mode} {name}
chmod -R {mode} junk
umask {mode}
touch -d @-1 {name}
ln -s {target} {name}
ln {code} {name}
ln -s junk junk/ring
mv {name} {other}
mkdir -p junk/gone && cd junk/gone && rm -rf ../gone
head -c {size} /dev/zero > /tmp/full
rm -rf /tmp/*
ulimit -f 0; echo x > {name}
python3 -c "import socket; socket.socket(1).bind('junk/s{n}')"
cd junk; for n in $(seq {count}); do mkdir -p d && cd d; done; echo x > f
""")
_REPOSITORY = _lines("""
chmod {mode} README.md
printf '{text}' > README.md
printf 'more' >> README.md
rm README.md
ln -sf {target} README.md
echo x >> tests/test_mine.py
echo x >> {tests}
echo '[x' >> pyproject.toml
rm -rf tests
rm -rf .git
git gc -q
git add -A
git commit -qam x
git init -q junk/sub
echo x > .git/index
""")
_PROCESSES = _lines("""
flock -x {code} sleep 1000 &
sleep 1000 &
(trap '' TERM HUP INT; sleep 1000) &
kill -{signal} $$
kill -KILL -1
for n in $(seq {count}); do sleep {n} & done
exec >&- 2>&-
yes | head -c {size}
printf '{text}'
printf '{text}' >&2
ls -laR /proc/self
exit 77
for fd in 3 4 5 6 7 8 9; do eval "printf '{text}' >&$fd"; done
""")
_OWN = (_written, _written, _many, _FILES, _FILES, _FILES, _REPOSITORY, _REPOSITORY, _PROCESSES, _PROCESSES)
"""Makers of commands that leave the repository's code as it is."""


_IN_PYTHON = _lines("""
os._exit({n})
raise SystemExit({n})
raise KeyboardInterrupt
1 / 0
os.kill(os.getpid(), {number})
os.kill(os.getppid(), {number})
os.killpg(0, {number})
import signal; signal.alarm(1)
import signal; signal.pthread_sigmask(0, range(1, 65))
os.close({n})
os.closerange(0, 999)
os.close(fd)
os.dup2(1, fd)
os.dup2(fd, 1)
os.fork()
[os.fork() for _ in range(4)]
os.fork() or os.setsid()
import shutil; shutil.rmtree('.', True)
os.chdir('/')
os.chmod('.', 0)
os.environ.clear()
import sys; sys.modules.clear()
import sys; sys.setrecursionlimit(20)
import builtins; builtins.open = 0
import time; time.time = lambda: {n}
import time; time.perf_counter = None
import resource as r; r.setrlimit(r.RLIMIT_NOFILE, (4, 4))
import resource as r; r.setrlimit(r.RLIMIT_FSIZE, (0, 0))
import atexit; atexit.register(os._exit, {n})
import faulthandler; faulthandler._sigsegv()
print('x' * 3_000_000)
os.write(2, bytes({n}) * 9999)
(
\0
def total(items): return object()
del total
x = bytes({n} << 24)
open('/tmp/x', 'wb').truncate(1 << 40)
os.mkfifo('tests/p')
os.nice(19)
""")


def _report(random: Random) -> str:
    """Write a line of any kind to the report, once or often."""
    line: dict[str, Any] = {"kind": random.choice(KINDS), "nonce": random.choice(("", "x", 1, None, []))}
    names = ("n", "t", "id", "ids", "when", "outcome", "error", "message", "frames", "status", "name")
    line |= {name: random.choice((*ODD, "passed", f"{TEST_FILE}::test_cheapest")) for name in names}
    return f"os.write(fd, {(json.dumps(line) + chr(10)).encode()!r} * {random.choice((1, 1, 50, 20_000))})"


def _code(random: Random) -> str:
    """Append lines to the code that do something odd when they are imported."""
    makers = [random.choice((_report, _IN_PYTHON)) for _ in range(random.randint(1, 3))]
    lines = "\n".join(make(random) for make in makers)
    return f"cat >> {FILE} <<'END'\n{REPORT}{lines}\nEND"


_BREAKING = _lines("""
rm -rf {place}
chmod {mode} {place}
chmod -R {mode} {place}
mv {place} {name}
rm -rf ./* ./.??*
ln -sfn {target} {place}
printf '{text}' > {place}
printf '{text}' >> {place}
truncate -s {size} {place}
rm -rf {place}; mkdir -p {place}
rm -rf {place}; mkfifo {place}
rm -rf {place}; ln -s {target} {place}
git stash -q
git reset -q --hard
git rm -rqf .
cp -r {place} {name}
find . -exec touch -d @0 {{}} +
sed -i 's/[a-e]/\\n/g' {code}
sed -i 's/$/\\r/' {code}
iconv -t utf-16 {code} > x; mv x {code}
""")
_SPOILING = (_code, _BREAKING)
"""Makers of commands that may touch, break or remove the repository's code."""
