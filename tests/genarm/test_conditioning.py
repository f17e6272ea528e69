"""One guide for K objectives: its equation, its training and folder, and weights for each row at decode time."""

import copy

import pytest
import torch
from datasets import Dataset
from peft import LoraConfig, PeftModel, get_peft_model
from tiny import left_padded_batch, tiny_causal_lm, tiny_tokenizer

from hf_reward_ext.cli.models import load_adapter
from hf_reward_ext.genarm import (
    GenARMConfig,
    GenARMLogitsProcessor,
    GenARMTrainer,
    GuidedCausalLM,
    fold_weights,
    load_conditioned_guide,
    objective_weights,
)
from hf_reward_ext.genarm.conditioning import ConditionedDown, condition_adapter, conditioned_layers
from hf_reward_ext.genarm.lora_groups import lora_layers
from hf_reward_ext.genarm.objectives import draw_weights

CONFIG = LoraConfig(task_type="CAUSAL_LM", target_modules="all-linear", r=4, init_lora_weights=False)
IDS = torch.tensor([[4, 5, 6, 7], [8, 9, 10, 11], [4, 5, 6, 7]])
WEIGHTS = torch.tensor([[0.2, 0.8], [1.0, 0.0], [0.9, 0.1]])


def conditioned(seed=0, objectives=2):
    torch.manual_seed(seed)
    model = get_peft_model(tiny_causal_lm("llama", seed=seed), copy.deepcopy(CONFIG))
    condition_adapter(model, objectives)
    return model.eval()


def folded(guide, weights):
    guide = copy.deepcopy(guide)
    fold_weights(guide, weights)
    assert not conditioned_layers(guide)
    return guide


@torch.no_grad()
def merged(guide, weights):
    """The plain model whose weights have the equation's change."""
    guide = copy.deepcopy(guide)
    for layer in lora_layers(guide):
        down, up = layer.lora_A["default"], layer.lora_B["default"]
        core = torch.eye(4) + sum((w - 1 / len(weights)) * c.T for w, c in zip(weights, down.core, strict=True))
        layer.base_layer.weight += layer.scaling["default"] * up.weight @ core @ down.weight
        layer.lora_B["default"].weight.zero_()
    return guide


@torch.no_grad()
def test_the_change_of_the_weights_is_that_of_the_equation():
    guide = conditioned()
    for number, weights in enumerate(WEIGHTS):
        row = IDS[number, None]
        expected = merged(guide, weights.tolist())(row).logits
        with objective_weights(weights):
            torch.testing.assert_close(guide(row).logits, expected, atol=1e-3, rtol=1e-4)
        with objective_weights(WEIGHTS):
            torch.testing.assert_close(guide(IDS).logits[number, None], expected, atol=1e-3, rtol=1e-4)
        torch.testing.assert_close(folded(guide, weights.tolist())(row).logits, expected, atol=1e-3, rtol=1e-4)
    with objective_weights(torch.tensor([0.5, 0.5])):
        equal = guide(IDS).logits
    torch.testing.assert_close(guide(IDS).logits, equal, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("kwargs", [{}, dict(num_beams=3)], ids=["greedy", "beams"])
def test_each_prompt_is_guided_by_its_weights_alone(kwargs):
    policy, guide = tiny_causal_lm("llama", seed=5), conditioned()
    ids, mask = left_padded_batch((5, 3, 5))
    ids[2], mask[2] = ids[0], mask[0]  # equal prompts with other weights
    settings = dict(max_new_tokens=6, **kwargs)
    processor = GenARMLogitsProcessor(guide, alpha=2.0, weights=WEIGHTS)
    together = policy.generate(ids, attention_mask=mask, logits_processor=[processor], **settings)
    assert not torch.equal(together[0], together[2])
    for row, weights in enumerate(WEIGHTS):
        own = [text[row, None] for text in (ids, mask)]
        plain = GenARMLogitsProcessor(folded(guide, weights), alpha=2.0)
        alone = policy.generate(own[0], attention_mask=own[1], logits_processor=[plain], **settings)
        assert torch.equal(together[row, None, : alone.shape[1]], alone)
        processor.weights = weights.tolist()
        alone_too = policy.generate(own[0], attention_mask=own[1], logits_processor=[processor], **settings)
        assert torch.equal(alone_too, alone)


def test_other_weights_never_continue_an_older_reading():
    guide, scores = conditioned(), torch.zeros(3, 32)
    processor = GenARMLogitsProcessor(guide, weights=WEIGHTS)
    for weights in (WEIGHTS, WEIGHTS.flip(0), [0.3, 0.7]):
        processor.weights = weights
        for length in (2, 3, 3):
            found = processor(IDS[:, :length], scores)
            for row, own in enumerate(torch.as_tensor(weights).expand(3, -1)):
                expected = folded(guide, own)(IDS[row, None, :length]).logits[0, -1].log_softmax(-1)
                torch.testing.assert_close(found[row], expected, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("weights", [[0.3, 0.7], WEIGHTS.tolist()], ids=["shared", "of rows"])
def test_a_call_computes_from_the_weights_once_and_the_next_call_again(weights, monkeypatch):
    policy, guide = tiny_causal_lm("llama", seed=5), conditioned()
    ids, mask = left_padded_batch((5, 3, 4))
    computed = []
    plain = ConditionedDown._change
    monkeypatch.setattr(ConditionedDown, "_change", lambda self, own: computed.append(self) or plain(self, own))
    processor = GenARMLogitsProcessor(guide, alpha=2.0, weights=weights)
    for _ in range(2):
        computed.clear()
        out = policy.generate(ids, attention_mask=mask, logits_processor=[processor], max_new_tokens=5)
        assert len(computed) == len(set(computed)) == len(conditioned_layers(guide))
        for row, own in enumerate(torch.as_tensor(weights).expand(3, -1)):
            one = [text[row, None] for text in (ids, mask)]
            plain_guide = GenARMLogitsProcessor(folded(guide, own), alpha=2.0)
            alone = policy.generate(one[0], attention_mask=one[1], logits_processor=[plain_guide], max_new_tokens=5)
            assert torch.equal(out[row, None, : alone.shape[1]], alone)
        with torch.no_grad():  # as a training between two calls does
            for layer in conditioned_layers(guide):
                layer.core.neg_()


@torch.no_grad()
def test_the_same_weights_of_a_guide_that_was_trained_since_are_read_again():
    guide = conditioned()
    for weights in (WEIGHTS[0], WEIGHTS):
        with objective_weights(weights):
            before = guide(IDS).logits
        for layer in conditioned_layers(guide):
            layer.core.neg_()
        with objective_weights(weights):
            after = guide(IDS).logits
        assert not torch.allclose(before, after, atol=1e-3)


PAIRS = [{"prompt": f"w{n} w5 ", "chosen": "w10 w11", "rejected": f"w13 w{n}", "objective": "a"} for n in range(2, 6)]
PAIRS += [{**row, "chosen": row["rejected"], "rejected": row["chosen"], "objective": "b"} for row in PAIRS]


def trainer(folder, rows=PAIRS, peft_config=CONFIG, model=None, eval_dataset=None, **kwargs):
    settings = dict(
        per_device_train_batch_size=8, report_to="none", use_cpu=True, learning_rate=3e-2, max_steps=30, beta=0.3,
        disable_tqdm=True, save_strategy="no", preference_conditioned=True, logging_strategy="no",
    ) | kwargs  # fmt: skip
    peft_config = copy.deepcopy(peft_config)
    if peft_config is not None and kwargs.get("max_steps") != 0:
        peft_config.init_lora_weights = True
    return GenARMTrainer(
        model or tiny_causal_lm(),
        GenARMConfig(str(folder), **settings),
        train_dataset=rows if not isinstance(rows, list) else Dataset.from_list(rows),
        eval_dataset=eval_dataset,
        processing_class=tiny_tokenizer(),
        peft_config=peft_config,
    )


@torch.no_grad()
def preferred(guide, weights):
    """Share of prompts for which the completion of objective `a` is more probable than that of `b`."""
    sides = [[[n + 8, 13, 18, 19, 2] for n in range(2, 6)], [[n + 8, 13, 21, n + 8, 2] for n in range(2, 6)]]
    sums = []
    for ids in map(torch.tensor, sides):
        with objective_weights(torch.tensor(weights)):
            logps = guide(ids).logits[:, 1:-1].log_softmax(-1)
        sums.append(logps.gather(-1, ids[:, 2:, None]).sum((1, 2)))
    return float((sums[0] > sums[1]).float().mean())


def test_opposite_objectives_are_learned_saved_and_chosen_at_run_time(tmp_path):
    own = trainer(tmp_path, eval_dataset=Dataset.from_list(PAIRS))
    own.train()
    metrics = own.evaluate()
    assert own.objectives == ["a", "b"]
    assert metrics["eval_accuracy/a"] == metrics["eval_accuracy/b"] == metrics["eval_accuracy"] == 1.0
    own.save_model()
    own.create_model_card()
    guide = load_conditioned_guide(tmp_path, base=tiny_causal_lm())
    assert guide.objectives == ["a", "b"] and not any(p.requires_grad for p in guide.parameters())
    assert preferred(guide, [1.0, 0.0]) == 1.0 and preferred(guide, [0.0, 1.0]) == 0.0
    trained = own.model.eval()
    for weights in ([1.0, 0.0], [0.3, 0.7]):
        with torch.no_grad(), objective_weights(torch.tensor(weights)):
            torch.testing.assert_close(guide(IDS).logits, trained(IDS).logits)
    alone = PeftModel.from_pretrained(tiny_causal_lm(), tmp_path).eval()
    with torch.no_grad():
        torch.testing.assert_close(alone(IDS).logits, trained(IDS).logits)
    assert "load_conditioned_guide" in (tmp_path / "README.md").read_text()
    with pytest.raises(ValueError, match="whose weights no command takes"):
        load_adapter(tiny_causal_lm(), str(tmp_path))
    with pytest.raises(ValueError, match="got the conditioned guide"):
        trainer(tmp_path / "more", model=str(tmp_path))


def test_a_resumed_training_goes_on_with_its_cores(tmp_path):
    whole = trainer(tmp_path, max_steps=4, save_strategy="steps", save_steps=2)
    whole.train()
    resumed = trainer(tmp_path, max_steps=4)
    resumed.train(resume_from_checkpoint=str(tmp_path / "checkpoint-2"))
    for one, other in zip(conditioned_layers(whole.model), conditioned_layers(resumed.model), strict=True):
        torch.testing.assert_close(one.core, other.core)
        torch.testing.assert_close(one.weight, other.weight)


def test_activations_that_are_computed_again_have_the_weights_of_their_rows(tmp_path):
    own = trainer(tmp_path, max_steps=0)
    batch = next(iter(own.get_train_dataloader()))
    gradients = []
    for again in (True, False):
        (own.model.gradient_checkpointing_enable if again else own.model.gradient_checkpointing_disable)()
        own.model.train()
        own.model.zero_grad()
        torch.manual_seed(0)
        own.compute_loss(own.model, batch).backward()
        gradients.append([layer.core.grad.clone() for layer in conditioned_layers(own.model)])
        assert all(gradient.abs().sum() > 0 for gradient in gradients[-1])
    for one, other in zip(*gradients, strict=True):
        torch.testing.assert_close(one, other)


def test_weights_are_drawn_with_the_density_of_their_objective():
    torch.manual_seed(0)
    drawn = draw_weights(torch.eye(3)[1].expand(4000, 3))
    torch.testing.assert_close(drawn.mean(0), torch.tensor([0.25, 0.5, 0.25]), atol=0.02, rtol=0)
    # E[f(w)] = 3 E_uniform[w_1 f(w)], for f(w) = w_0.
    uniform = torch.distributions.Dirichlet(torch.ones(3)).sample((4000,))
    torch.testing.assert_close(drawn[:, 0].mean(), 3 * (uniform[:, 1] * uniform[:, 0]).mean(), atol=0.02, rtol=0)


@pytest.mark.parametrize(
    ("weights", "kind", "message"),
    [
        (None, ValueError, "`weights` must be given for a conditioned guide"),
        ([0.5, 0.6], ValueError, "sum of 1"),
        ([1.5, -0.5], ValueError, "at least 0"),
        ([float("nan"), 1.0], ValueError, "at least 0"),
        ([0.2, 0.3, 0.5], ValueError, r"each of the 2 objectives.*shape \(3,\)"),
        (0.5, ValueError, r"shape \(\)"),
        ("equal", TypeError, "must be numbers"),
    ],
)
def test_weights_that_do_not_fit_are_refused(weights, kind, message):
    guide = conditioned()
    with pytest.raises(kind, match=message):
        GenARMLogitsProcessor(guide, weights=weights)
    processor = GenARMLogitsProcessor(guide, weights=[0.5, 0.5])
    with pytest.raises(kind, match=message):
        processor.weights = weights


def test_weights_are_not_read_from_the_memory_of_the_caller():
    weights, alpha = torch.tensor([0.5, 0.5]), torch.ones(1)
    processor = GenARMLogitsProcessor(conditioned(), alpha, weights=weights)
    weights[0], alpha[0] = 0.9, float("nan")
    assert processor.weights.tolist() == [0.5, 0.5]
    assert processor.weights_of_columns(torch.tensor([0]), 0, 1, torch.device("cpu")).tolist() == [[[1.0]]]


def test_what_cannot_be_weighted_is_refused():
    guide, policy = conditioned(), tiny_causal_lm("llama", seed=5)
    with pytest.raises(ValueError, match="`weights` need conditioned guides"):
        GenARMLogitsProcessor(policy, weights=[0.5, 0.5])
    with pytest.raises(ValueError, match="`static_cache_length` must be None"):
        GenARMLogitsProcessor(guide, weights=[0.5, 0.5], static_cache_length=32)
    for build in (lambda: GuidedCausalLM(policy, guide), lambda: GuidedCausalLM.from_peft(guide)):
        with pytest.raises(ValueError, match="must not be conditioned"):
            build()
    with pytest.raises(TypeError, match="must be a conditioned guide"):
        fold_weights(policy, [0.5, 0.5])
    with pytest.raises(ValueError, match="one row of weights"):
        fold_weights(guide, WEIGHTS)
    with pytest.raises(ValueError, match="got 3 for 2 generated rows"):
        GenARMLogitsProcessor(guide, weights=WEIGHTS)(IDS[:2], torch.zeros(2, 32))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (dict(peft_config=None), "`peft_config` must be given"),
        (dict(peft_config=LoraConfig(target_modules="all-linear", use_dora=True)), "use_dora=True"),
        (dict(rows=[{k: v for k, v in row.items() if k != "objective"} for row in PAIRS]), "column 'objective'"),
        (dict(rows=PAIRS[:4]), "two values or more"),
        (dict(rows=[{**row, "objective": 0.5} for row in PAIRS]), "a name or a number"),
        (dict(rows=Dataset.from_list(PAIRS).to_iterable_dataset()), "got a stream"),
        (
            dict(eval_dataset=Dataset.from_list([{**PAIRS[0], "objective": "c"}])),
            r"one of \['a', 'b'\] in the eval data",
        ),
    ],
)
def test_data_and_adapters_that_do_not_fit_are_refused_before_training(tmp_path, change, message):
    with pytest.raises(ValueError, match=message):
        trainer(tmp_path, **change)


def test_a_folder_that_is_no_conditioned_guide_is_refused(tmp_path):
    tiny_causal_lm().save_pretrained(tmp_path)
    with pytest.raises(ValueError, match=r"without `conditioned_guide.json`"):
        load_conditioned_guide(tmp_path)
