"""Folder layout of `generate(custom_generate=...)`: `generate.py` and `requirements.txt`."""

from collections.abc import Mapping
from pathlib import Path

from hf_reward_ext.hub.requirements import requirement_lines

FOLDER = "custom_generate"

_CODE = '''\
"""{what}

    model.generate(**inputs, custom_generate=PATH_OR_REPO, trust_remote_code=True)

All code is in the package hf_reward_ext; this file only has the settings.
"""

from hf_reward_ext.hub import {function}

PATH_OR_REPO = {path_or_repo!r}


def generate(model, {parameters}, **generate_arguments):
    return {function}(model, {arguments}, path_or_repo=PATH_OR_REPO, **generate_arguments)
'''


def write_custom_generate(
    folder: Path, path_or_repo: str, what: str, function: str, defaults: Mapping[str, object]
) -> None:
    """
    Write the code of a repository.

    Args:
        folder (`Path`): Folder of the repository.
        path_or_repo (`str`): Location of the repository when the code runs.
        what (`str`): First line of the code's docstring.
        function (`str`): Name of the decoding function in `hf_reward_ext.hub`.
        defaults (`dict`): Default arguments with plain values, which a call of `generate` can override.
    """
    code = _CODE.format(
        what=what,
        path_or_repo=path_or_repo,
        function=function,
        parameters=", ".join(f"{name}={value!r}" for name, value in defaults.items()),
        arguments=", ".join(f"{name}={name}" for name in defaults),
    )
    (folder / FOLDER).mkdir(parents=True, exist_ok=True)
    (folder / FOLDER / "generate.py").write_text(code, encoding="utf-8")
    (folder / FOLDER / "requirements.txt").write_text("\n".join(requirement_lines()) + "\n", encoding="utf-8")
