import gzip

import pytest
from datasets import Dataset, DatasetDict

from hf_reward_ext.cli.rows import check_columns, load_splits, take_split

ROWS = Dataset.from_dict({"prompt": ["a", "b"], "label": [0, 1]})


@pytest.mark.parametrize("kind", ["json", "jsonl", "csv", "parquet", "arrow"])
@pytest.mark.parametrize("streaming", [False, True])
def test_local_files(kind, streaming, tmp_path):
    path = tmp_path / f"rows.{kind}"
    if kind == "arrow":
        ROWS.save_to_disk(tmp_path / "saved")
        path = next((tmp_path / "saved").glob("*.arrow"))
    elif kind == "jsonl":
        ROWS.to_json(path)
    else:
        getattr(ROWS, f"to_{kind}")(path)
    rows = load_splits(str(path), streaming=streaming)["train"]
    assert list(rows) == list(ROWS)


@pytest.mark.parametrize("kind", ["json", "jsonl", "csv"])
@pytest.mark.parametrize("streaming", [False, True])
def test_compressed_files(kind, streaming, tmp_path):
    path = tmp_path / f"rows.{kind}.gz"
    frame = ROWS.to_pandas()
    frame.to_csv(path, index=False) if kind == "csv" else frame.to_json(path, orient="records", lines=True)
    assert list(load_splits(str(path), streaming=streaming)["train"]) == list(ROWS)


def test_a_bad_line_of_a_compressed_file_is_named(tmp_path):
    path = tmp_path / "rows.jsonl.gz"
    path.write_bytes(gzip.compress(b'{"prompt": "a"}\n{"prompt"\n'))
    with pytest.raises(ValueError, match="line 2 is no JSON"):
        load_splits(str(path))
    parquet = tmp_path / "rows.parquet.gz"
    parquet.touch()
    with pytest.raises(ValueError, match=r"ends with '.gz', but rows are read from .* compressed as .gz. Convert it"):
        load_splits(str(parquet))


def test_folders(tmp_path):
    ROWS.to_json(tmp_path / "files" / "train.jsonl")
    ROWS.to_json(tmp_path / "files" / "test.jsonl")
    assert sorted(load_splits(str(tmp_path / "files"))) == ["test", "train"]
    ROWS.save_to_disk(tmp_path / "saved")
    assert list(load_splits(str(tmp_path / "saved"))["train"]) == list(ROWS)
    DatasetDict({"train": ROWS, "dev": ROWS}).save_to_disk(tmp_path / "both")
    splits = load_splits(str(tmp_path / "both"), streaming=True)
    assert sorted(splits) == ["dev", "train"]
    assert list(splits["dev"]) == list(ROWS)


def test_what_is_not_there_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match="there is no file"):
        load_splits("no/rows.jsonl")
    other = tmp_path / "rows.txt"
    other.write_text("x")
    with pytest.raises(ValueError, match=r"ends with '.txt', but rows are read from .json"):
        load_splits(str(other))
    with pytest.raises(ValueError, match=r"has \['train'\]. Pass one of them as --split"):
        take_split({"train": ROWS}, "test", "rows", "--split")
    with pytest.raises(ValueError, match="has no rows"):
        take_split({"train": ROWS.select([])}, "train", "rows", "--split")
    check_columns(ROWS, "rows", ("chosen",), ("prompt", "label"))
    with pytest.raises(ValueError, match=r"\['prompt', 'label'\], but \{chosen, rejected\} or \{text\} is needed"):
        check_columns(ROWS, "rows", ("chosen", "rejected"), ("text",))
