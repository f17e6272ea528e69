"""
Upload of saved models to the Hub: folders of `make demo`, `make demo-llm`, a recipe, or any training.

    python examples/upload_checkpoints.py me outputs/demo/sla outputs/demo/genarm/guide --dry-run   # lists the files
    python examples/upload_checkpoints.py me outputs/demo/sla outputs/demo/genarm/guide

Repositories are named after the path below `outputs`, here `me/demo-sla` and `me/demo-genarm-guide`, and are private
unless `--public` is given. Log in with `hf auth login` first.
"""

import argparse
import json
from pathlib import Path

from hf_reward_ext import push_folder
from hf_reward_ext.base.saving.upload import files_to_upload


def repository(owner: str, folder: Path) -> str:
    """Return the name of the repository of a folder."""
    parts = folder.resolve().parts
    after = len(parts) - parts[::-1].index("outputs") if "outputs" in parts[:-1] else len(parts) - 1
    return f"{owner}/{'-'.join(parts[after:])}"


def check(folder: Path) -> dict[str, Path]:
    """
    Return the files to upload.

    Raises:
        ValueError: If there is no model or no card, or the base of the model is a folder of this machine.
    """
    files = files_to_upload(folder)
    configs = [files[name] for name in ("config.json", "adapter_config.json") if name in files]
    if not configs or "README.md" not in files:
        raise ValueError(
            f"The folder {str(folder)!r} must have a config and README.md, got {sorted(files)}. Save a model there."
        )
    for path in configs:
        base = json.loads(path.read_text(encoding="utf-8")).get("base_model_name_or_path")
        if base and Path(base).exists():
            raise ValueError(
                f"The base of {str(folder)!r} must be a name on the Hub, got the folder {base!r}, which others do not "
                "have. Train on the model by its name."
            )
    return files


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("owner", help="user or organization on the Hub")
    parser.add_argument("folders", nargs="+", type=Path)
    parser.add_argument("--public", action="store_true")
    parser.add_argument("--dry-run", action="store_true", help="list the files, upload nothing")
    args = parser.parse_args(arguments)
    found = {folder: check(folder) for folder in args.folders}  # all are checked before the first upload
    for folder, files in found.items():
        name = repository(args.owner, folder)
        size = sum(path.stat().st_size for path in files.values()) / 1e6
        print(f"{name}: {len(files)} files, {size:.1f} MB")
        if args.dry_run:
            print("".join(f"  {file}\n" for file in files), end="")
        else:
            push_folder(folder, name, private=not args.public)


if __name__ == "__main__":
    main()
