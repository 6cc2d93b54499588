import json

import pytest

from envs.register.errors import RegisterError
from envs.register.formats.reading import read_entries, read_rows

from .conftest import swebench_row


def test_a_malformed_line_is_named_and_the_lines_after_it_are_read(tmp_path):
    file = tmp_path / "rows.jsonl"
    lines = [json.dumps(swebench_row(instance_id=f"row-{number}")).encode() for number in range(520)]
    lines[516] = lines[516][:-9]
    lines[517] = b'"\xff"'
    file.write_bytes(b"\n".join(lines))
    found = list(read_entries("swebench", file))
    assert [reading.place for reading in found if reading.error] == [
        "rows.jsonl, line 517",
        "rows.jsonl, line 518",
    ]
    assert found[516].error.startswith("the line: is not JSON")
    assert found[517].error == "the line: is not UTF-8 (byte 1)"
    assert found[519].entry is not None and found[519].id == "row-519"


@pytest.mark.parametrize("name", ["rows.jsonl", "rows.json"])
def test_a_byte_order_mark_and_separators_in_a_text_are_no_matter(tmp_path, name):
    rows = [swebench_row(instance_id=number, patch="+x\u2028\x85\r\n") for number in ("a", "b")]
    text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    (tmp_path / name).write_text(text, "utf-8-sig")
    assert [line.row for line in read_rows(tmp_path / name)] == rows


@pytest.mark.parametrize("content", ["list", "by id", "one", "lines"])
def test_a_json_file_may_hold_rows_in_any_of_the_ways_data_sets_use(tmp_path, content):
    rows = [swebench_row(instance_id=name) for name in ("a", "b")]
    ways = {
        "list": json.dumps(rows),
        "by id": json.dumps({row["instance_id"]: row for row in rows}),
        "one": json.dumps(rows[0], indent=1),
        "lines": "\n".join(map(json.dumps, rows)),
    }
    file = tmp_path / "rows.json"
    file.write_text(ways[content])
    assert [line.row["instance_id"] for line in read_rows(file)] == (
        ["a"] if content == "one" else ["a", "b"]
    )


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("rows.csv", "a,b", "neither .jsonl, .json nor .parquet"),
        ("rows.json", "{", "is not JSON"),
        ("missing.json", None, "there is no file"),
    ],
)
def test_a_file_that_is_no_file_of_rows_is_refused_in_one_line(tmp_path, name, content, message):
    if content is not None:
        (tmp_path / name).write_text(content)
    with pytest.raises(RegisterError, match=message):
        list(read_entries("swebench", tmp_path / name))


def test_an_unknown_format_is_refused_with_the_known_ones(tmp_path):
    with pytest.raises(RegisterError, match=r"unknown format 'sweden'; choose one of swebench, .*harbor"):
        list(read_entries("sweden", tmp_path))
