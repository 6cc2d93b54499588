"""Search: terms, symbols, passages, ranking, what changed in the sandbox, embeddings, and the cache."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from envs.search.cache import DiskCache, MemoryCache, TieredCache
from envs.search.embedder import Embedder, EmbedderError, EndpointEmbedder
from envs.search.finder import Finder, NothingThereError, look_around
from envs.search.grammars import symbols
from envs.search.index import fused
from envs.search.indexes import Indexes
from envs.search.outlines import FILE_LIMIT, outline
from envs.search.words import stem, terms
from envs.tasksets.trees import TreeFile, digest
from sandboxes.base import SandboxSpec
from sandboxes.fake import FakeSandbox

CLIENT = b'''"""Talk to a server."""
import time

LIMIT = 5


class Client:
    """A connection."""

    timeout = 3

    @property
    def open(self):
        return True

    async def send(self, request):
        """Send, and try again when the line is down."""
        def again():
            return self.send(request)
        for retryCount in range(LIMIT):
            time.sleep(retryCount)

    class Pool:
        def take(self):
            return Client()
'''
MATHS = b'''def mean_of(values):
    """Average of some numbers."""
    return sum(values) / len(values)
'''
GUIDE = b"# Client guide\n\nIntroduction.\n\n## Installing\n\nUse the package installer.\n"
FILES = {
    "net/client.py": CLIENT,
    "maths.py": MATHS,
    "docs/guide.md": GUIDE,
    "build.js": b"function mean_of(a) {}\n",
}
SPEC = SandboxSpec("fake")


def indexes(folder: Path) -> Indexes:
    return Indexes(DiskCache(folder))


def look(
    tmp_path: Path,
    sandbox: FakeSandbox | None = None,
    *,
    files: Mapping[str, bytes] = FILES,
    path: str = ".",
    glob: str | None = None,
) -> Finder:
    base = {name: TreeFile(data) for name, data in files.items()}
    sandbox = sandbox or FakeSandbox(SPEC, files)
    shared = indexes(tmp_path)
    return look_around(sandbox, base, digest(base), shared, path=path, glob=glob, timeout_s=5)


def test_identifiers_are_split_and_endings_cut() -> None:
    assert terms("maxRetries") == ["max", "retri", "maxretries"]
    assert terms("parse_HTTPHeader2") == ["pars", "http", "head", "2", "parse_httpheader2"]
    assert {stem(word) for word in ("parse", "parses", "parsed", "parsing", "parser")} == {"pars"}
    assert stem("stopped") == stem("stops") == "stop"
    assert terms("where is the") == []


def test_definitions_know_what_they_lie_in_and_their_decorators() -> None:
    found = symbols("a.py", CLIENT)
    assert found is not None
    rows = {
        (definition.kind, definition.qualified): (definition.start, definition.end)
        for definition in found.definitions
    }
    assert rows["class", "Client"] == (7, 25)
    assert rows["function", "Client.open"] == (12, 14)
    assert rows["function", "Client.send"] == (16, 21)
    assert rows["function", "Client.send.again"] == (18, 19)
    assert rows["function", "Client.Pool.take"] == (24, 25)
    assert rows["constant", "LIMIT"] == (4, 4)
    assert rows["attribute", "Client.timeout"] == (10, 10)


def test_uses_are_not_definitions() -> None:
    found = symbols("a.py", CLIENT)
    assert found is not None
    assert found.uses["LIMIT"] == (20,)
    assert found.uses["Client"] == (25,)
    assert found.uses["send"] == (19,)


@pytest.mark.parametrize(
    "code",
    [
        b"def whole():\n    pass\n\ndef broken(:\n    x = [1,\n",
        b"# caf\xe9\ndef whole():\n    return '\xff'\n",
        b"\xef\xbb\xbfdef whole():\r\n    pass\r\n",
    ],
)
def test_broken_syntax_and_odd_bytes_keep_what_can_be_read(code: bytes) -> None:
    found = symbols("a.py", code)
    assert found is not None
    assert "whole" in {definition.name for definition in found.definitions}
    assert outline("a.py", code).passages


@pytest.mark.parametrize("code", [b"(" * 100_000, b"not " * 50_000, b"a" + b".a" * 50_000])
def test_hostile_syntax_costs_little_and_falls_back_to_words(code: bytes) -> None:
    started = time.monotonic()
    assert outline("a.py", code).uses is None
    assert time.monotonic() - started < 20


def test_definition_answers_by_name_by_class_and_by_module(tmp_path: Path) -> None:
    finder = look(tmp_path)
    expected = "net/client.py:16-21: function Client.send\n    16\tasync def send(self, request):"
    for query in ("send", "Client.send", "client.Client.send", "net.client.Client.send"):
        assert finder.definition(query) == expected
    assert "there is mean_of" in finder.definition("mean_off")
    assert finder.definition("Pool.send").startswith("no definition of Pool.send is known")


def test_files_without_a_grammar_are_searched_for_the_word_and_say_so(tmp_path: Path) -> None:
    text = look(tmp_path).uses("mean_of")
    assert text == (
        "no use of mean_of is known\n(the word in files whose syntax is not read:)\n"
        "build.js:1: function mean_of(a) {}"
    )
    assert look(tmp_path).uses("LIMIT") == (
        "net/client.py:20: for retryCount in range(LIMIT):  [in Client.send]"
    )


def test_long_answers_are_cut_and_count_the_rest(tmp_path: Path) -> None:
    text = look(tmp_path, files={"a.py": b"print(1)\n" * 60}).uses("print").splitlines()
    assert (len(text), text[-1]) == (51, "(10 more; narrow the search by path or glob)")


@pytest.mark.parametrize(
    ("query", "best"),
    [
        ("where are retries counted", "net/client.py:16-21: function Client.send"),
        ("averaging numbers", "maths.py:1-3: function mean_of"),
        ("how do I install the package", "docs/guide.md:5-7: section Installing"),
    ],
)
def test_a_question_in_words_finds_its_passage(tmp_path: Path, query: str, best: str) -> None:
    assert look(tmp_path).meaning(query, None).splitlines()[0] == best


def test_a_result_shows_its_signature_and_the_lines_that_matter(tmp_path: Path) -> None:
    text = look(tmp_path).meaning("retry count", None)
    assert "    16\tasync def send(self, request):\n    20\tfor retryCount" in text
    assert look(tmp_path).meaning("zebra", None) == "nothing shares a word with this; use other words"


def test_path_and_glob_narrow(tmp_path: Path) -> None:
    assert "docs/guide.md" in look(tmp_path).meaning("client", None)
    for narrowed in (
        look(tmp_path, path="net"),
        look(tmp_path, glob="*.py"),
        look(tmp_path, path="/workspace/net"),
    ):
        assert "docs/guide.md" not in narrowed.meaning("client", None)
    assert look(tmp_path, path="net/client.py").definition("mean_of").startswith("no definition")
    with pytest.raises(NothingThereError, match="no text file in nowhere"):
        look(tmp_path, path="nowhere")


def test_answers_follow_edits_new_files_and_removals(tmp_path: Path) -> None:
    sandbox = FakeSandbox(SPEC, FILES)
    sandbox.write("net/client.py", b"# one line more\n" + CLIENT, timeout_s=1)
    sandbox.write("net/fresh.py", b"def brand_new():\n    return LIMIT\n", timeout_s=1)
    sandbox.write(".pytest_cache/old.py", b"def stale(): pass\n", timeout_s=1)
    del sandbox.files["/workspace/maths.py"]
    finder = look(tmp_path, sandbox)
    assert finder.definition("Client.send").startswith("net/client.py:17-22:")
    assert "    21\tfor retryCount" in finder.meaning("retry count", None)
    assert "net/fresh.py:1-2" in finder.definition("brand_new")
    assert "net/fresh.py:2: return LIMIT" in finder.uses("LIMIT")
    assert "maths.py" not in finder.meaning("average of numbers", None)
    assert "stale" not in finder.index.names()


def test_a_file_that_became_too_large_is_no_longer_answered_from_memory(tmp_path: Path) -> None:
    sandbox = FakeSandbox(SPEC, FILES)
    sandbox.write("maths.py", MATHS + b"#" * FILE_LIMIT, timeout_s=1)
    assert look(tmp_path, sandbox).definition("mean_of").startswith("no definition")


def test_binary_huge_and_data_files_are_left_alone(tmp_path: Path) -> None:
    files = {
        "a.py": MATHS,
        "b.py": b"def b(): 0\0",
        "c.py": b"#" * (FILE_LIMIT + 1),
        "d.json": b'{"average": 1}',
    }
    finder = look(tmp_path, files=files)
    assert set(finder.index.outlines) == {"a.py", "d.json"}
    assert "d.json" not in finder.meaning("average", None)


def test_a_tree_is_indexed_once_for_all_threads_and_edits_read_only_what_changed(tmp_path: Path) -> None:
    shared = indexes(tmp_path)
    base = {name: TreeFile(data) for name, data in FILES.items()}
    first = shared.of(base, digest(base), timeout_s=5)
    results: list[object] = []
    ask = lambda: results.append(shared.of(base, digest(base), timeout_s=0))  # noqa: E731
    threads = [threading.Thread(target=ask) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(10)
    assert len(results) == 4 and all(result is first for result in results)
    edited = base | {"maths.py": TreeFile(MATHS + b"\n")}
    with pytest.raises(TimeoutError):  # one file is unknown, and there is no time to read it
        shared.of(edited, digest(edited), timeout_s=-1)
    second = shared.of(edited, digest(edited), timeout_s=5)
    assert second.outlines["net/client.py"] is first.outlines["net/client.py"]


def test_outlines_survive_on_disk_and_damage_is_made_good(tmp_path: Path) -> None:
    files = {"big.py": MATHS * 100}
    base = {name: TreeFile(data) for name, data in files.items()}
    first = indexes(tmp_path).of(base, digest(base), timeout_s=5)
    (stored,) = [path for path in tmp_path.rglob("*") if path.is_file()]
    again = indexes(tmp_path).of(base, digest(base), timeout_s=-1)  # nothing may be read anew
    assert again.outlines == first.outlines
    whole = stored.read_bytes()
    for damaged in (b"", whole[:-9], whole[:40] + b"\0" + whole[41:], b"\0" * 32 + whole[32:]):
        stored.write_bytes(damaged)
        assert indexes(tmp_path).of(base, digest(base), timeout_s=5).outlines == first.outlines
        assert stored.read_bytes() == whole


def test_a_cache_that_cannot_be_written_is_done_without(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    assert look(tmp_path / "file", files={"big.py": MATHS * 100}).definition("mean_of")


def test_memory_is_bounded() -> None:
    cache: MemoryCache[str] = MemoryCache(10)
    for name in "abc":
        cache.put(name, name, 4)
    assert cache.get("a") is None and cache.get("b") == "b"
    cache.put("d", "d", 4)
    assert cache.get("c") is None and cache.get("b") == "b"
    cache.put("huge", "huge", 99)
    assert cache.get("huge") == "huge" and cache.get("b") is None


def test_values_read_from_disk_count_towards_the_bound_of_memory(tmp_path: Path) -> None:
    def cache() -> TieredCache[bytes]:
        return TieredCache(DiskCache(tmp_path), limit=10, encode=bytes, decode=bytes)

    for name in ("a", "b", "c"):
        cache().put(name, name.encode() * 4, 4)
    later = cache()
    assert [later.get(name) for name in ("a", "b", "c")] == [b"aaaa", b"bbbb", b"cccc"]
    assert later.get("a", on_disk=False) is None and later.get("c", on_disk=False) == b"cccc"


def test_fusion_prefers_what_both_rankings_know() -> None:
    assert fused([[1, 2, 3], [4, 2, 5]])[0] == 2
    assert fused([[], [3, 1]]) == [3, 1]


class Synonyms:
    """Knows that a mean is an average of figures: one dimension for each theme."""

    name = "synonyms"

    def __init__(self) -> None:
        self.asked: list[str] = []

    def embed(self, texts: Sequence[str], *, timeout_s: float) -> list[list[float]]:
        self.asked += texts
        themes = (("mean", "statistic"), ("server", "network"), ("install",))
        return [
            [1e-6 + sum(text.lower().count(word) for word in theme) for theme in themes] for text in texts
        ]


def test_an_embedder_finds_what_shares_no_word_and_is_asked_once_per_passage(tmp_path: Path) -> None:
    embedder = Synonyms()
    shared = indexes(tmp_path)
    base = {name: TreeFile(data) for name, data in FILES.items()}

    def ask(sandbox: FakeSandbox) -> str:
        return look_around(sandbox, base, digest(base), shared, glob="*.py", timeout_s=5).meaning(
            "statistics", embedder
        )

    assert ask(FakeSandbox(SPEC, FILES)).startswith("maths.py:1-3: function mean_of")
    passages = len(embedder.asked) - 1
    sandbox = FakeSandbox(SPEC, FILES)
    sandbox.write("maths.py", b"\n" + MATHS, timeout_s=1)
    assert ask(sandbox).startswith("maths.py:2-4: function mean_of")
    assert passages > 3 and embedder.asked[passages + 1 :] == [
        f"maths.py mean_of\n{MATHS.decode().strip()}",
        "statistics",
    ]


@contextmanager
def endpoint(
    answer: bytes | None = None, *, status: int = 200, wait_s: float = 0
) -> Iterator[tuple[str, list[int]]]:
    """A real server; rows come in reverse, as the API allows. Yields its URL and the batch sizes."""
    batches: list[int] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            batches.append(len(asked["input"]))
            time.sleep(wait_s)
            vectors = Synonyms().embed(asked["input"], timeout_s=1)
            rows = [{"index": number, "embedding": vector} for number, vector in enumerate(vectors)]
            body = answer if answer is not None else json.dumps({"data": rows[::-1]}).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            with suppress(BrokenPipeError):
                self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/v1", batches
    finally:
        server.shutdown()
        thread.join(5)
        server.server_close()


def test_an_endpoint_gives_vectors_in_order_and_in_batches() -> None:
    with endpoint() as (url, batches):
        embedder: Embedder = EndpointEmbedder(url, "m", batch=2)
        texts = ["mean", "server", "install"]
        assert embedder.embed(texts, timeout_s=5) == Synonyms().embed(texts, timeout_s=5)
        assert batches == [2, 1]


@pytest.mark.parametrize(
    ("answer", "status", "wait_s", "message"),
    [
        (b"{}", 200, 0, "did not answer with embeddings"),
        (b'{"data": []}', 200, 0, "0 vectors for 1 texts"),
        (b"too many", 429, 0, "answered 429: too many"),
        (None, 200, 1.0, "did not answer"),
    ],
)
def test_an_endpoint_that_fails_says_how_in_one_sentence(
    answer: bytes | None, status: int, wait_s: float, message: str
) -> None:
    with (
        endpoint(answer, status=status, wait_s=wait_s) as (url, _),
        pytest.raises(EmbedderError, match=message),
    ):
        EndpointEmbedder(url, "m").embed(["a"], timeout_s=0.3)


def test_a_question_is_answered_by_words_alone_when_the_embedder_fails(tmp_path: Path) -> None:
    with endpoint(b"no", status=500) as (url, _):
        text = look(tmp_path).meaning("averaging numbers", EndpointEmbedder(url, "m"))
    assert text.startswith("(ranked by words alone)\nmaths.py:1-3: function mean_of")
