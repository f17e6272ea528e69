"""One model, one prompt, one completion: one number, whichever way it is asked."""

import json

import numpy as np
import pytest
import torch
from cli_files import read_rows, write_rows
from datasets import Dataset
from tiny import tiny_causal_lm, tiny_tokenizer
from tiny_judges import POINTWISE, VERDICTS
from tokenizers import processors
from transformers import AutoModelForCausalLM, LlamaConfig, LlamaForSequenceClassification, pipeline
from trl import DPOConfig, DPOTrainer, GRPOConfig, GRPOTrainer

from hf_reward_ext import (
    BestOfNCallback,
    ELHSRForSequenceClassification,
    ELHSRModel,
    FastSlowRewardModel,
    GenARMRewardModel,
    RewardTransformer,
    RewardTransformerForSequenceClassification,
    TextScorer,
    WeightedReward,
    evaluate_best_of_n,
    evaluate_preferences,
)
from hf_reward_ext.base.scoring.scorer import as_scorer
from hf_reward_ext.cli.main import main

START = tiny_tokenizer()("assistant :")["input_ids"]  # ends every chat prompt
TEXTS = ["w3 w4 ", "w5 ", "w6 w7 w8 "]
CHATS = [[{"role": "user", "content": text.strip()}] for text in TEXTS]
PREFILLED = [[*chat, {"role": "assistant", "content": "w9 w10 "}] for chat in CHATS]
FORMS = {"text": TEXTS, "chat": CHATS, "prefilled": PREFILLED}


def with_bos(tokenizer):
    """The same tokenizer as Llama's, Gemma's and Mistral's: it writes BOS."""
    backend = tokenizer.backend_tokenizer
    backend.post_processor = processors.TemplateProcessing(single="<bos> $A", special_tokens=[("<bos>", 1)])
    return tokenizer


TOKENIZERS = {"plain": tiny_tokenizer, "writes BOS": lambda: with_bos(tiny_tokenizer())}


def named_base(folder):
    tiny_causal_lm(seed=3, initializer_range=0.2).save_pretrained(folder / "base")
    return AutoModelForCausalLM.from_pretrained(folder / "base", attn_implementation="eager").eval()


def elhsr(folder):
    base = named_base(folder)
    head = ELHSRModel.from_policy(base)
    head.config.completion_start_ids = START
    return ELHSRForSequenceClassification(base, head)


def sla(folder):
    rt = RewardTransformer.from_base(named_base(folder), channel_size=4, completion_start_ids=START)
    for parameter in rt.reward_channel.parameters():
        torch.nn.init.normal_(parameter)
    return RewardTransformerForSequenceClassification(rt).eval()


def genarm(folder):
    return GenARMRewardModel.from_causal_lm(tiny_causal_lm(seed=3), completion_start_ids=START).eval()


def judge(folder):
    settings = dict(kind="binary", template=POINTWISE, max_new_tokens=4)
    return FastSlowRewardModel(tiny_causal_lm(seed=3), tiny_tokenizer(), VERDICTS, 0, 0, **settings)


def classifier(folder):
    config = LlamaConfig(
        vocab_size=32, hidden_size=16, intermediate_size=32, num_hidden_layers=2, num_attention_heads=4,
        num_labels=1, pad_token_id=0,
    )  # fmt: skip
    return LlamaForSequenceClassification(config).eval()


MODELS = {"elhsr": elhsr, "sla": sla, "genarm": genarm, "judge": judge, "classifier": classifier}


@pytest.fixture(scope="module", params=MODELS)
def saved(request, tmp_path_factory):
    """A reward model and its folder."""
    folder = tmp_path_factory.mktemp(request.param)
    torch.manual_seed(0)
    model = MODELS[request.param](folder)
    model.save_pretrained(folder / "rm")
    tiny_tokenizer().save_pretrained(folder / "rm")
    return request.param, model, folder / "rm"


def by_hand(model, tokenizer, prompt, completion):
    """The definition: a plain forward over the prompt and a completion that EOS ends."""
    if isinstance(model, FastSlowRewardModel):
        answer = completion
        if not isinstance(prompt, str) and prompt[-1]["role"] == "assistant":
            prompt, answer = prompt[:-1], prompt[-1]["content"] + completion
        return model.score([prompt], [answer]).item()
    start = 0
    if isinstance(prompt, str):
        whole = prompt + completion
        if not isinstance(model, LlamaForSequenceClassification):
            start = len(tokenizer(prompt)["input_ids"])
            ids = [*tokenizer(whole)["input_ids"], tokenizer.eos_token_id]
        else:
            ids = tokenizer(whole, add_special_tokens=False)["input_ids"]
    else:
        prefix = tokenizer.apply_chat_template(prompt, tokenize=False, add_generation_prompt=True)
        if prompt[-1]["role"] == "assistant":
            prefix = prefix.split("<eos>")[0]
        start = len(tokenizer(prefix, add_special_tokens=False)["input_ids"])
        ids = tokenizer(prefix + completion + " <eos>", add_special_tokens=False)["input_ids"]
    ids = torch.tensor([ids])
    mask = {} if isinstance(model, LlamaForSequenceClassification) else dict(
        completion_mask=torch.arange(ids.shape[1])[None] >= start
    )  # fmt: skip
    with torch.no_grad():
        return model(input_ids=ids, attention_mask=torch.ones_like(ids), **mask).logits.item()


def candidates(model, tokenizer, prompts):
    """What the pipeline samples and how it scores that: `(prompt, completion, score)`."""
    pipe = pipeline(
        "reward-bon", model=tiny_causal_lm(), tokenizer=tokenizer, reward_model=model, num_candidates=3, seed=1,
        return_all=True, show_progress=False, max_new_tokens=6,
    )  # fmt: skip
    return [
        (prompt, record["generated_text"], record["score"])
        for prompt, records in zip(prompts, pipe(prompts, return_full_text=False), strict=True)
        for record in records
    ]


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("written", TOKENIZERS)
def test_python_entrances(saved, form, written):
    _, model, _ = saved
    tokenizer = TOKENIZERS[written]()
    if isinstance(model, FastSlowRewardModel):
        tokenizer = model.tokenizer
    found = candidates(model, tokenizer, FORMS[form])
    prompts, completions, scores = (list(column) for column in zip(*found, strict=True))
    asked = {"pipeline": scores}
    asked["by hand"] = [by_hand(model, tokenizer, prompt, text) for prompt, text, _ in found]
    asked["as_scorer"] = as_scorer(model, tokenizer)(prompts, completions)
    asked["TextScorer"] = TextScorer(model, tokenizer)(prompts, completions).tolist()
    asked["weighted"] = as_scorer(WeightedReward([TextScorer(model, tokenizer)]))(prompts, completions)
    turns = completions
    if form != "text":
        turns = [[{"role": "assistant", "content": text}] for text in completions]
        asked["messages"] = as_scorer(model, tokenizer)(prompts, turns)
    pairs = [  # of which empty ones are refused
        {"prompt": prompt, "chosen": turn, "rejected": turn, "id": index}
        for index, (prompt, turn, text) in enumerate(zip(prompts, turns, completions, strict=True))
        if text
    ]
    asked["evaluate_preferences"] = list(asked["by hand"])
    for row in evaluate_preferences(model, pairs, tokenizer=tokenizer, num_resamples=10).rows:
        asked["evaluate_preferences"][int(row["id"])] = row["chosen_scores"][0]
    rows = [{"prompt": prompt, "completions": [text], "labels": [1]} for prompt, text, _ in found]
    asked["evaluate_best_of_n"] = evaluate_best_of_n(model, rows, tokenizer=tokenizer, num_resamples=10).rewards[:, 0]
    for entrance, rewards in asked.items():
        np.testing.assert_allclose(rewards, asked["by hand"], atol=2e-4, err_msg=entrance)
    assert len(set(np.round(scores, 4))) > 3


@pytest.mark.parametrize("form", ["text", "chat"])
def test_the_head_says_the_same_while_generating(tmp_path, form):
    model, tokenizer = elhsr(tmp_path), tiny_tokenizer()
    pipe = pipeline(
        "reward-bon", model=model.policy, tokenizer=tokenizer, reward_model=model.head, num_candidates=24,
        return_all=True, max_new_tokens=60, temperature=2.0, seed=0, suppress_tokens=[0, 1, 3],  # which no text shows
    )  # fmt: skip
    records = [
        (prompt, record) for prompt in FORMS[form] for record in pipe(prompt, return_full_text=False)
        if record["num_tokens"] < 60
    ]  # fmt: skip
    prompts, texts = zip(*((prompt, record["generated_text"]) for prompt, record in records), strict=True)
    expected = as_scorer(model, tokenizer)(prompts, texts)
    np.testing.assert_allclose([record["score"] for _, record in records], expected, atol=1e-4)
    assert len(records) > 10


@pytest.mark.parametrize("form", ["text", "chat"])
def test_by_name_and_on_the_command_line(saved, form, tmp_path, capsys):
    kind, model, folder = saved
    tokenizer = tiny_tokenizer()
    if kind == "elhsr":  # whose folder is the head's, for the policy that it was trained on
        found = [(prompt, "w9 w10", None) for prompt in FORMS[form]]
    else:
        found = candidates(str(folder), tokenizer, FORMS[form])
    expected = [by_hand(model, tokenizer, prompt, text) for prompt, text, _ in found]
    if kind != "elhsr":
        np.testing.assert_allclose([score for *_, score in found], expected, atol=2e-4)
    found = [row for row in found if row[1]]  # empty ones are refused
    prompts, texts = [prompt for prompt, *_ in found], [text for _, text, _ in found]
    expected = [by_hand(model, tokenizer, prompt, text) for prompt, text, _ in found]
    np.testing.assert_allclose(as_scorer(str(folder))(prompts, texts), expected, atol=2e-4)
    np.testing.assert_allclose(TextScorer.from_pretrained(folder)(prompts, texts), expected, atol=2e-4)
    turns = texts if form == "text" else [[{"role": "assistant", "content": text}] for text in texts]
    pairs = [{"prompt": prompt, "chosen": turn, "rejected": turn} for prompt, turn in zip(prompts, turns, strict=True)]
    data = write_rows(tmp_path / "pairs.jsonl", pairs)
    arguments = ["evaluate", "--scorer", str(folder), "--data", data, "--rows", str(tmp_path / "rows.jsonl")]
    assert main([*arguments, "--dtype", "float32"]) == 0
    scores = [row["chosen_scores"][0] for row in read_rows(tmp_path / "rows.jsonl")]
    np.testing.assert_allclose(scores, expected, atol=2e-4)


@pytest.mark.parametrize("form", ["text", "chat"])
def test_bon_on_the_command_line(saved, form, tmp_path, capsys):
    kind, model, folder = saved
    tokenizer = tiny_tokenizer()
    policy = tmp_path / "policy"
    tiny_causal_lm().save_pretrained(policy)
    tokenizer.save_pretrained(policy)
    if kind == "elhsr":
        policy = folder.parent / "base"
        tokenizer.save_pretrained(policy)
    data = write_rows(tmp_path / "prompts.jsonl", [{"prompt": prompt} for prompt in FORMS[form]])
    arguments = ["bon", "--model", str(policy), "--reward_model", str(folder), "--data", data, "--num_candidates", "8"]
    capsys.readouterr()
    assert main([*arguments, "--max_new_tokens", "60", "--temperature", "2", "--dtype", "float32", "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)["rows"]
    found = [
        (row["prompt"], text, reward)
        for row in rows
        for text, reward, length in zip(row["completions"], row["rewards"], row["num_tokens"], strict=True)
        if length < 60  # the head reads what was written, and EOS was not
    ]
    if kind != "elhsr":  # whose policy writes special tokens too, which no text shows
        expected = [by_hand(model, tokenizer, prompt, text) for prompt, text, _ in found]
        np.testing.assert_allclose([reward for *_, reward in found], expected, atol=2e-4)
    assert len(found) > 3


@pytest.mark.parametrize("form", ["text", "chat"])
def test_callbacks(saved, form, tmp_path):
    _, model, _ = saved
    tokenizer = tiny_tokenizer()
    callback = BestOfNCallback(
        FORMS[form], model, 2, reward_processing_class=tokenizer, max_new_tokens=6, num_prompts=2
    )
    seen = []
    plain = callback.rewards.scorer.score
    callback.rewards.scorer.score = lambda *given, **kwargs: (
        seen.append((given, plain(*given, **kwargs))) or seen[-1][1]
    )
    rows = Dataset.from_list([{"prompt": "w3 w4", "chosen": " w5", "rejected": " w6"}] * 2)
    args = DPOConfig(str(tmp_path), report_to="none", bf16=False, use_cpu=True, disable_tqdm=True)
    trainer = DPOTrainer(
        tiny_causal_lm(), tiny_causal_lm(), args=args, train_dataset=rows, eval_dataset=rows,
        processing_class=tokenizer, callbacks=[callback],
    )  # fmt: skip
    trainer.evaluate()
    for (prompts, completions, _), rewards in seen:
        texts = [one if isinstance(one, str) else one[0]["content"] for one in completions]
        expected = [by_hand(model, tokenizer, *pair) for pair in zip(prompts, texts, strict=True)]
        np.testing.assert_allclose(rewards, expected, atol=2e-4)
    assert len(seen) == 2


@pytest.mark.parametrize("form", ["text", "chat"])
def test_grpo_by_path(saved, form, tmp_path):
    """A chat's template carries the boundary and EOS; in a text of TRL's both are missing, as documented."""
    kind, model, folder = saved
    tokenizer, seen, rewards = tiny_tokenizer(), [], []

    def look(prompts, completions, **columns):
        seen.extend(zip(prompts, completions, strict=True))
        return [0.0] * len(prompts)

    args = GRPOConfig(
        str(tmp_path), num_generations=2, per_device_train_batch_size=4, max_completion_length=4, max_steps=1,
        report_to="none", use_cpu=True, bf16=False, disable_tqdm=True, save_strategy="no",
    )  # fmt: skip
    trainer = GRPOTrainer(
        tiny_causal_lm(), reward_funcs=[str(folder), look], args=args, processing_class=tokenizer,
        train_dataset=Dataset.from_dict({"prompt": FORMS[form]}),
    )  # fmt: skip
    trainer.reward_funcs[0].register_forward_hook(lambda *given: rewards.extend(given[-1].logits[:, 0].tolist()))
    trainer.train()
    for (prompt, completion), reward in zip(seen, rewards, strict=True):
        if form == "chat" and kind != "judge":
            assert reward == pytest.approx(by_hand(model, tokenizer, prompt, completion[0]["content"]), abs=2e-4)
        else:  # one text without a boundary
            whole = prompt + completion if form == "text" else tokenizer.apply_chat_template(
                prompt + completion, tokenize=False
            )  # fmt: skip
            ids = tokenizer(whole, add_special_tokens=False, return_tensors="pt")["input_ids"]
            with torch.no_grad():
                assert reward == pytest.approx(model(input_ids=ids).logits.item(), abs=2e-4)
    assert len(seen) == 4
