import json

import pytest

from hf_reward_ext.cli.row_file import RowFile


def lines(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_rows_stand_under_their_name_when_all_are_there(tmp_path):
    path = tmp_path / "deep" / "out.jsonl"
    rows = RowFile(path, {"seed": 0})
    with rows:
        rows.write({"text": "é"})
        assert not path.exists()
        assert lines(rows.part) == [{"text": "é"}]  # at once
    assert rows.finish() == 1
    assert path.read_text() == '{"text": "é"}\n'
    assert list(path.parent.iterdir()) == [path]


def test_a_run_goes_on_behind_whole_batches(tmp_path):
    path = tmp_path / "out.jsonl"
    first = RowFile(path, {"seed": 0}, batch_size=2)
    with first:
        for number in range(5):
            first.write({"n": number})
    with first.part.open("a") as file:
        file.write('{"n": 5')  # the power fails
    second = RowFile(path, {"seed": 0}, batch_size=2)
    with second:
        assert second.num_done == 4
        second.write({"n": "again"})
    assert second.finish() == 5
    assert [row["n"] for row in lines(path)] == [0, 1, 2, 3, "again"]


def test_rows_may_be_converted_at_the_end(tmp_path):
    rows = RowFile(tmp_path / "out.jsonl", {})
    with rows:
        for number in range(3):
            rows.write({"n": number})
    assert rows.finish(lambda row: None if row["n"] == 1 else {"m": row["n"]}) == 2
    assert lines(tmp_path / "out.jsonl") == [{"m": 0}, {"m": 2}]
    assert len(list(tmp_path.iterdir())) == 1


def test_nothing_is_replaced_unless_asked(tmp_path):
    path = tmp_path / "out.jsonl"
    with RowFile(path, {"seed": 0}) as rows:
        rows.write({})
    with pytest.raises(
        FileExistsError, match="part' is there, from an unfinished run with other options. Pass another"
    ):
        RowFile(path, {"seed": 1})
    with RowFile(path, {"seed": 1}, overwrite=True) as other:
        assert other.num_done == 0
    assert not rows.part.exists()
    other.finish()
    with pytest.raises(FileExistsError, match=r"out.jsonl' is there. Pass another name, or --overwrite"):
        RowFile(path, {"seed": 1})
    with RowFile(path, {"seed": 1}, overwrite=True) as again:
        again.write({"n": 1})
    again.finish()
    assert lines(path) == [{"n": 1}]
