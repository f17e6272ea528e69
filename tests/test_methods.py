"""What all four methods promise as reward models that are loaded by path."""

import pytest
import torch
from datasets import Dataset
from tiny import PAD, VOCAB, tiny_causal_lm, tiny_tokenizer
from tiny_judges import POINTWISE, VERDICTS
from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification, pipeline
from trl import GRPOConfig, GRPOTrainer, RLOOConfig, RLOOTrainer

from hf_reward_ext import ELHSRModel, GenARMRewardModel, TextScorer
from hf_reward_ext.fast_slow import FastSlowRewardModel
from hf_reward_ext.sla import RewardTransformer

START = [VOCAB - 1]  # ends every prompt
PROMPTS = ["w3 w4 w23", "w5 w23", "w6 w7 w8 w23", "w9 w23"]


def named_base(folder):
    tiny_causal_lm(initializer_range=0.2).save_pretrained(folder / "base")
    return AutoModelForCausalLM.from_pretrained(folder / "base", attn_implementation="eager").eval()


def elhsr(folder):
    head = ELHSRModel.from_policy(named_base(folder))
    head.config.completion_start_ids = START
    head.save_pretrained(folder / "rm")


def genarm(folder):
    GenARMRewardModel.from_causal_lm(tiny_causal_lm(), length_normalization=True).save_pretrained(folder / "rm")


def sla(folder):
    rt = RewardTransformer.from_base(named_base(folder), channel_size=4, completion_start_ids=START)
    for parameter in rt.reward_channel.parameters():
        torch.nn.init.normal_(parameter)
    rt.save_pretrained(folder / "rm")


def fast_slow(folder):
    judge = FastSlowRewardModel(
        tiny_causal_lm(), tiny_tokenizer(), VERDICTS, 0, 0, kind="binary", template=POINTWISE, max_new_tokens=4
    )
    judge.save_pretrained(folder / "rm")


METHODS = {"elhsr": elhsr, "genarm": genarm, "sla": sla, "fast_slow": fast_slow}


@pytest.fixture(params=METHODS, scope="module")
def path(request, tmp_path_factory):
    """Folder of a saved reward model with its tokenizer."""
    folder = tmp_path_factory.mktemp(request.param)
    torch.manual_seed(0)
    METHODS[request.param](folder)
    tiny_tokenizer().save_pretrained(folder / "rm")
    return str(folder / "rm")


def load(path):
    return AutoModelForSequenceClassification.from_pretrained(path, num_labels=1).eval()


def texts():
    generator = torch.Generator().manual_seed(1)
    lengths = [3, 7, 4, 5, 6, 3, 8, 4]
    return [torch.randint(3, VOCAB, (length,), generator=generator) for length in lengths]


def padded(rows, side):
    return torch.nn.utils.rnn.pad_sequence(rows, batch_first=True, padding_value=PAD, padding_side=side)


@pytest.mark.stack
@torch.no_grad()
def test_logits_are_raw_and_independent_of_batch_and_padding(path):
    model = load(path)
    model.config.pad_token_id = PAD  # as GRPO does
    assert model.config.num_labels == 1 and model.config.problem_type == "regression" and not model.training
    rows = texts()
    alone = torch.cat([model(input_ids=row[None]).logits for row in rows])
    assert alone.shape == (8, 1) and len(alone.unique()) == 8
    for side in ("left", "right"):
        ids = padded(rows, side)
        for mask in ({"attention_mask": (ids != PAD).long()}, {}):
            together = model(input_ids=ids, **mask).logits
            torch.testing.assert_close(together, alone, atol=1e-4, rtol=1e-4)
    # A sigmoid would keep them inside 0..1.
    assert ((alone < 0) | (alone > 1)).any()


@pytest.mark.stack
@torch.no_grad()
def test_what_was_loaded_is_saved_and_loaded_again(path, tmp_path):
    model = load(path)
    model.save_pretrained(tmp_path / "again")
    tiny_tokenizer().save_pretrained(tmp_path / "again")
    ids = texts()[1][None]
    torch.testing.assert_close(load(tmp_path / "again")(input_ids=ids).logits, model(input_ids=ids).logits)


@pytest.mark.stack
def test_the_pipeline_gives_the_raw_score(path):
    pipe = pipeline("text-classification", model=path, device="cpu")
    scorer = TextScorer.from_pretrained(path)
    text = "w3 w4 w23 w7 w8"
    for found, expected in zip(pipe([text, "w5 w23 w6"]), scorer(["", ""], [text, "w5 w23 w6"]), strict=True):
        assert found["score"] == pytest.approx(float(expected), abs=1e-5)


def settings(folder):
    return dict(
        output_dir=str(folder), num_generations=2, per_device_train_batch_size=4, max_completion_length=4, max_steps=1,
        report_to="none", use_cpu=True, bf16=False, disable_tqdm=True, save_strategy="no", logging_steps=1,
    )  # fmt: skip


@pytest.mark.stack
@pytest.mark.parametrize(("trainer", "config"), [(GRPOTrainer, GRPOConfig), (RLOOTrainer, RLOOConfig)])
def test_trl_trains_a_policy_on_it_by_path(path, trainer, config, tmp_path):
    tiny_causal_lm(seed=1).save_pretrained(tmp_path / "policy")
    run = trainer(
        AutoModelForCausalLM.from_pretrained(tmp_path / "policy"),  # RLOO loads its reference by this name
        reward_funcs=path,
        args=config(**settings(tmp_path)),
        train_dataset=Dataset.from_dict({"prompt": PROMPTS}),
        processing_class=tiny_tokenizer(),
    )
    run.train()
    logged = run.state.log_history[0]
    assert logged["rewards/rm/mean"] == logged["reward"] != 0
