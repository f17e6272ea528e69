"""Uploads of a saved folder to the Hub, with a card and code that load from the Hub."""

from fnmatch import fnmatch
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from huggingface_hub import CommitInfo, CommitOperationAdd, HfApi

from hf_reward_ext.base.options import check_choice
from hf_reward_ext.base.saving.card import CARD

# Hidden files, training states, and pickles.
_LEFT_OUT = (".*", "_*", "checkpoint-*", "runs", "*.bin", "*.pt", "*.pth", "*.pkl", "*.ckpt")
_POINTING = (CARD, "custom_generate/generate.py")


def files_to_upload(folder: str | Path) -> dict[str, Path]:
    """
    Return the files of a folder that [`push_folder`] uploads, by their names in the repository.

    Args:
        folder (`str` or `Path`): Folder of a saved model.
    """
    folder = Path(folder)
    files = {path.relative_to(folder).as_posix(): path for path in sorted(folder.rglob("*")) if path.is_file()}
    return {name: path for name, path in files.items() if not _is_left_out(name)}


def push_folder(
    folder: str | Path,
    repo_id: str,
    *,
    private: bool | None = None,
    token: str | bool | None = None,
    revision: str | None = None,
    create_pr: bool = False,
    commit_message: str = "Upload with hf_reward_ext",
    replace_card: bool = True,
    repo_type: str = "model",
) -> CommitInfo:
    """
    Upload a folder that this package saved, in one commit.

    The card's example and `custom_generate/generate.py` load from `folder`; the uploaded versions load from `repo_id`.
    Training checkpoints and pickles are not uploaded. The folder itself is not changed.

    Args:
        folder (`str` or `Path`): A saved head, channel, guide, judge, or decoding.
        repo_id (`str`): Repository on the Hub, created if it does not exist.
        private, token, revision, create_pr, commit_message (*optional*): As for `huggingface_hub.HfApi.create_commit`.
        replace_card (`bool`, *optional*, defaults to `True`): Whether to replace an existing card.
        repo_type (`str`, *optional*, defaults to `"model"`): Kind of the repository, `"model"` or `"dataset"`.

    Returns:
        `CommitInfo` of the Hub.

    Raises:
        ValueError: If the folder has no files to upload, or for another kind of repository.

    Example:
    ```python
    >>> push_folder("outputs/head", "me/head")
    ```
    """
    folder = Path(folder)
    files = files_to_upload(folder)
    if not files:
        raise ValueError(
            f"The folder {str(folder)!r} holds no files, but {repo_id!r} would be filled from it. Save the model there "
            "first."
        )
    check_choice("repo_type", repo_type, ("model", "dataset"))
    kind: dict[str, Any] = {} if repo_type == "model" else {"repo_type": repo_type}  # models are the Hub's default
    api = HfApi(token=token, library_name="hf_reward_ext")
    repo_id = api.create_repo(repo_id, private=private, **kind, exist_ok=True).repo_id
    if revision is not None:
        api.create_branch(repo_id, branch=revision, **kind, exist_ok=True)
    if not replace_card and CARD in files and api.file_exists(repo_id, CARD, **kind, revision=revision):
        del files[CARD]
    operations = [
        CommitOperationAdd(name, _pointed_at(path, folder, repo_id) if name in _POINTING else str(path))
        for name, path in files.items()
    ]
    return api.create_commit(
        repo_id,
        operations,
        commit_message=commit_message,
        **kind,
        revision=revision,
        create_pr=create_pr,
    )


def push_model(model, repo_id: str, *, private=None, token=None, revision=None, create_pr=False,
               commit_message: str | None = None, **save_kwargs) -> CommitInfo:  # fmt: skip
    """
    Save a model and upload it; an existing card in the repository is kept.

    Args:
        model: Model with `save_pretrained`, which is called with `save_kwargs`.
        repo_id, private, token, revision, create_pr, commit_message: As for [`push_folder`].
    """
    with TemporaryDirectory() as parent:
        folder = Path(parent) / repo_id.split("/")[-1]
        model.save_pretrained(folder, **save_kwargs)
        return push_folder(
            folder, repo_id, private=private, token=token, revision=revision, create_pr=create_pr,
            commit_message=commit_message or f"Upload {type(model).__name__}", replace_card=False,
        )  # fmt: skip


def _is_left_out(name: str) -> bool:
    return any(fnmatch(part, pattern) for part in name.split("/") for pattern in _LEFT_OUT)


def _pointed_at(path: Path, folder: Path, repo_id: str) -> bytes:
    text = path.read_text(encoding="utf-8")
    for location in {str(folder), str(folder.resolve())}:
        text = text.replace(repr(location), repr(repo_id))
    return text.encode()
