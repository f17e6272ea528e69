"""Uploads that end in folders below the working directory, where `from_pretrained("me/name")` finds them."""

import re
import shutil
from pathlib import Path
from types import SimpleNamespace

import pytest
from huggingface_hub import HfApi
from tiny import tiny_causal_lm, tiny_tokenizer
from transformers import AutoModelForCausalLM


@pytest.fixture
def hub(tmp_path, monkeypatch):
    """`.files(repo_id)` of what was uploaded; `.calls` of everything asked of the Hub."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HF_TOKEN", "hf_of_a_test")
    calls = []

    def create_repo(self, repo_id, **kwargs):
        calls.append(("create_repo", repo_id, kwargs))
        name = repo_id if "/" in repo_id else f"me/{repo_id}"
        Path(name).mkdir(parents=True, exist_ok=True)
        return SimpleNamespace(repo_id=name)

    def create_commit(self, repo_id, operations, **kwargs):
        calls.append(("create_commit", repo_id, kwargs))
        for operation in operations:
            path = Path(repo_id) / operation.path_in_repo
            path.parent.mkdir(parents=True, exist_ok=True)
            content = operation.path_or_fileobj
            path.write_bytes(content if isinstance(content, bytes) else Path(content).read_bytes())
        return SimpleNamespace(commit_message=kwargs.get("commit_message"))

    def upload_folder(self, *, repo_id, folder_path, ignore_patterns=(), **kwargs):
        calls.append(("upload_folder", repo_id, kwargs))
        shutil.copytree(folder_path, repo_id, dirs_exist_ok=True, ignore=shutil.ignore_patterns(*ignore_patterns))

    def file_exists(self, repo_id, filename, **kwargs):
        return (Path(repo_id) / filename).is_file()

    def create_branch(self, repo_id, **kwargs):
        calls.append(("create_branch", repo_id, kwargs))

    for function in (create_repo, create_commit, upload_folder, file_exists, create_branch):
        monkeypatch.setattr(HfApi, function.__name__, function)

    def files(repo_id):
        return sorted(path.relative_to(repo_id).as_posix() for path in Path(repo_id).rglob("*") if path.is_file())

    return SimpleNamespace(calls=calls, files=files)


def snippet_of(folder):
    """The Python of a card."""
    (snippet,) = re.findall(
        r"^```python\n(.*?)^```", (Path(folder) / "README.md").read_text(), re.MULTILINE | re.DOTALL
    )
    return snippet


def run_card(folder):
    """Executes the card's snippet; what it leaves in its names."""
    names: dict = {}
    exec(compile(snippet_of(folder), str(folder), "exec"), names)
    return names


def tokenizer_of_texts():
    """As tokenizers of language models are: without token types."""
    tokenizer = tiny_tokenizer()
    tokenizer.model_input_names = ["input_ids", "attention_mask"]
    return tokenizer


def named_policy(name="me/policy"):
    """A policy that loads by its name, with its tokenizer."""
    tiny_causal_lm().save_pretrained(name)
    tokenizer_of_texts().save_pretrained(name)
    return AutoModelForCausalLM.from_pretrained(name).eval()
