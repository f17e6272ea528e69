"""Requirements of a repository's code, in the format that transformers checks before it runs the code."""

from importlib.metadata import requires, version

from packaging.requirements import Requirement

_CHECKED = {"torch", "transformers", "trl", "peft"}


def requirement_lines() -> list[str]:
    """
    Return one bound per line, as transformers requires: of this release, and of the tested dependencies.

    Example:
    ```python
    >>> requirement_lines()[:2]
    ['hf_reward_ext>=0.1.0', 'hf_reward_ext<0.2']
    ```
    """
    own = version("hf_reward_ext")
    major, minor = own.split(".")[:2]
    lines = [f"hf_reward_ext>={own}", f"hf_reward_ext<{major}.{int(minor) + 1}"]
    for text in requires("hf_reward_ext") or []:
        requirement = Requirement(text)
        if requirement.name in _CHECKED and requirement.marker is None:
            bounds = sorted(requirement.specifier, key=lambda bound: bound.operator, reverse=True)
            lines += [f"{requirement.name}{bound.operator}{bound.version}" for bound in bounds]
    return lines
