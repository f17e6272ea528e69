"""The layout that `generate(custom_generate=...)` looks for: `generate.py` and `requirements.txt` in a folder."""

from collections.abc import Mapping
from pathlib import Path

from hf_reward_ext.hub.requirements import requirement_lines

FOLDER = "custom_generate"

_CODE = '''\
"""{what}

    model.generate(**inputs, custom_generate=PATH_OR_REPO, trust_remote_code=True)

All code is in the package hf_reward_ext; this file only holds the settings.
"""

from hf_reward_ext.hub import {function}

PATH_OR_REPO = {place!r}


def generate(model, {parameters}, **generate_arguments):
    return {function}(model, {arguments}, place=PATH_OR_REPO, **generate_arguments)
'''


def write_custom_generate(folder: Path, place: str, what: str, function: str, defaults: Mapping[str, object]) -> None:
    """
    Args:
        folder (`Path`): Of the repository.
        place (`str`): Where the code finds the repository when it runs.
        what (`str`): First line of the code's docstring.
        function (`str`): Of `hf_reward_ext.hub`, that decodes.
        defaults (`dict`): Its arguments with plain values, which a call of `generate` may change.
    """
    code = _CODE.format(
        what=what,
        place=place,
        function=function,
        parameters=", ".join(f"{name}={value!r}" for name, value in defaults.items()),
        arguments=", ".join(f"{name}={name}" for name in defaults),
    )
    (folder / FOLDER).mkdir(parents=True, exist_ok=True)
    (folder / FOLDER / "generate.py").write_text(code, encoding="utf-8")
    (folder / FOLDER / "requirements.txt").write_text("\n".join(requirement_lines()) + "\n", encoding="utf-8")
