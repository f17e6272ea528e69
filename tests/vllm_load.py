"""
Load saved models in vLLM, in its own environment and without this package; a line of JSON for each.

    path/to/vllm-env/bin/python tests/vllm_load.py '[{"folder": "arm", "runner": "generate"}]' '[5, 6, 7]'
"""

import json
import sys


def main() -> None:
    asked, ids = json.loads(sys.argv[1]), json.loads(sys.argv[2])
    for one in asked:
        try:
            answer = {"scores": load(**one, ids=ids)}
        except Exception as error:
            answer = {"error": f"{type(error).__name__}: {error}"}
        print(json.dumps(one | answer), flush=True)


def load(folder: str, runner: str, ids: list[int], adapter: str | None = None) -> dict[str, float]:
    """Return the log-probabilities of the most probable next tokens, or the output of a classifier."""
    from vllm import LLM
    from vllm.distributed import cleanup_dist_env_and_memory

    lora = dict(enable_lora=True, max_lora_rank=8) if adapter else {}
    llm = None
    try:
        llm = LLM(folder, runner=runner, dtype="float32", max_model_len=64, enforce_eager=True,
                  skip_tokenizer_init=runner == "generate", kv_cache_memory_bytes=2**26, **lora)  # fmt: skip
        return ask(llm, runner, ids, adapter)
    finally:
        del llm
        cleanup_dist_env_and_memory()  # for the next one


def ask(llm, runner: str, ids: list[int], adapter: str | None) -> dict[str, float]:
    from vllm import PoolingParams, SamplingParams
    from vllm.lora.request import LoRARequest

    prompt = {"prompt_token_ids": ids}
    if runner == "pooling":
        [output] = llm.classify([prompt], pooling_params=PoolingParams(use_activation=False), use_tqdm=False)
        return dict(enumerate(output.outputs.probs))
    request = LoRARequest("adapter", 1, adapter) if adapter else None
    params = SamplingParams(max_tokens=1, temperature=0.0, logprobs=20, detokenize=False)
    [output] = llm.generate([prompt], params, lora_request=request, use_tqdm=False)
    return {token: found.logprob for token, found in output.outputs[0].logprobs[0].items()}


if __name__ == "__main__":
    main()
