"""A real server: `transformers serve` in this process, with a tiny model."""

import socket

import pytest
from tiny import tiny_causal_lm, tiny_tokenizer

from hf_reward_ext.best_of_n import EngineBestOfN
from hf_reward_ext.engines import Sampling, ServerGenerator

pytest.importorskip("uvicorn")
pytest.importorskip("openai")

pytestmark = [
    pytest.mark.allow_hosts(["127.0.0.1", "::1"]),
    pytest.mark.filterwarnings("ignore"),  # of the server's own packages
]


@pytest.fixture(scope="module")
def generator(tmp_path_factory):
    from transformers.cli.serve import Serve

    folder = tmp_path_factory.mktemp("policy")
    model = tiny_causal_lm()
    model.generation_config.do_sample = True
    model.save_pretrained(folder)
    tiny_tokenizer().save_pretrained(folder)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    server = Serve(force_model=str(folder), host="127.0.0.1", port=port, non_blocking=True, log_level="error")
    yield ServerGenerator(f"http://127.0.0.1:{port}/v1", str(folder), concurrency=1, retry_delay=0.1)
    server.kill_server()


@pytest.mark.parametrize("prompts", [["w3 w4", "w5"], [[{"role": "user", "content": "w3 w4"}]]], ids=["text", "chat"])
def test_candidates_are_several_and_depend_on_the_seed_alone(generator, prompts):
    sampling = Sampling(max_new_tokens=6, seed=1)
    groups = generator.generate(prompts, 4, sampling)
    assert generator.generate(prompts, 4, sampling) == groups
    assert generator.generate(prompts, 4, Sampling(max_new_tokens=6, seed=2)) != groups
    for group in groups:
        assert len({one.text for one in group}) > 1 and all(1 <= one.num_tokens <= 6 for one in group)


def test_best_of_n(generator):
    best_of_n = EngineBestOfN(generator, lambda prompts, completions: [-len(text) for text in completions])
    records = best_of_n("w3 w4", num_candidates=4, max_new_tokens=6, seed=0, return_all=True)
    assert [one["score"] for one in records] == sorted((one["score"] for one in records), reverse=True)
    assert best_of_n("w3 w4", num_candidates=4, max_new_tokens=6, seed=0) == records[:1]


def test_another_model_is_refused_with_the_answer_of_the_server(generator):
    other = ServerGenerator(generator.connection.url, "other")
    with pytest.raises(RuntimeError, match="400: .*pinned"):
        other.generate(["w3"], 1, Sampling())
