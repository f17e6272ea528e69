"""
Run a module or script in the Python of vLLM: transformers, and what vLLM lacks, come from the environment of the tests.

    path/to/vllm-env/bin/python tests/in_vllm.py .venv -m pytest -m vllm -W ignore tests/engines/test_vllm_llm.py
    path/to/vllm-env/bin/python tests/in_vllm.py .venv examples/benchmarks/engines.py FOLDER --vllm
"""

import os
import runpy
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
SETTINGS = {
    "VLLM_ENABLE_V1_MULTIPROCESSING": "0",  # the engine in this process
    "VLLM_CPU_KVCACHE_SPACE": "1", "VLLM_CPU_OMP_THREADS_BIND": "nobind", "HF_HUB_OFFLINE": "1",
    "VLLM_NO_USAGE_STATS": "1", "VLLM_LOGGING_LEVEL": "WARNING",
}  # fmt: skip


def main() -> None:
    environment, what, *arguments = sys.argv[1:]
    packages = Path(environment).resolve() / f"lib/python3.{sys.version_info.minor}/site-packages"
    os.environ |= {**SETTINGS, **os.environ}
    with tempfile.TemporaryDirectory() as first:
        for path in [packages / "transformers", *packages.glob("transformers-*.dist-info")]:
            (Path(first) / path.name).symlink_to(path)
        sys.path = [first, str(ROOT), *sys.path[1:], str(packages)]
        if what == "-m":
            sys.argv = arguments
            runpy.run_module(arguments[0], run_name="__main__", alter_sys=True)
        else:
            sys.argv = [what, *arguments]
            runpy.run_path(what, run_name="__main__")


if __name__ == "__main__":
    main()
