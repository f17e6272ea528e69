"""Every trainer under the options of TRL's: each does what it says, or is refused before training."""

import json
import shutil
import warnings
from dataclasses import replace

import pytest
import torch
from datasets import Dataset, DatasetDict
from peft import LoraConfig, PeftModel, get_peft_model
from tiny import tiny_causal_lm, tiny_tokenizer
from trainer_methods import CHATS, METHODS, TEXTS
from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification, AutoTokenizer

LORA = dict(r=4, target_modules="all-linear", task_type="CAUSAL_LM")
ALL = pytest.mark.parametrize("method", METHODS)
TRAIN_THE_POLICY = pytest.mark.parametrize("method", ["genarm", "sla and policy", "fast-slow"])


@pytest.fixture(scope="module")
def named(tmp_path_factory):
    """Name of a causal LM with its tokenizer."""
    folder = tmp_path_factory.mktemp("base")
    tiny_causal_lm().save_pretrained(folder)
    tiny_tokenizer().save_pretrained(folder)
    return str(folder)


def weights(trainer):
    return {name: p.detach().clone() for name, p in trainer.model.named_parameters() if p.requires_grad}


def assert_same(one, other, **tolerance):
    assert one.keys() == other.keys()
    for name, value in one.items():
        torch.testing.assert_close(value, other[name], msg=name, **tolerance)


def trained(trainer, **kwargs):
    trainer.train(**kwargs)
    return weights(trainer)


@ALL
def test_rows_are_padded_to_a_multiple(method, tmp_path):
    lengths = set()
    for multiple in (None, 16):
        trainer = METHODS[method].build(tmp_path, settings=dict(pad_to_multiple_of=multiple))
        batch = next(iter(trainer.get_train_dataloader()))
        lengths.add(batch["features" if "features" in batch else "input_ids"].shape[1] % 16 == 0)
    assert lengths == {False, True}


@ALL
def test_columns_that_nothing_reads_may_stay(method, tmp_path):
    rows = [{**row, "note": "x", "number": 1} for row in TEXTS]
    plain = trained(METHODS[method].build(tmp_path))
    assert_same(trained(METHODS[method].build(tmp_path, rows=rows)), plain)
    assert_same(trained(METHODS[method].build(tmp_path, rows=rows, settings=dict(remove_unused_columns=False))), plain)


@pytest.mark.parametrize("form", ["torch", "numpy", "transform"])
@ALL
def test_formatted_datasets_train_alike(method, form, tmp_path):
    data = Dataset.from_list(TEXTS)
    plain = trained(METHODS[method].build(tmp_path, rows=data))
    formed = data.with_transform(lambda batch: batch) if form == "transform" else data.with_format(form)
    assert_same(trained(METHODS[method].build(tmp_path, rows=formed)), plain)


@ALL
def test_data_may_be_prepared_in_several_processes(method, tmp_path):
    plain = trained(METHODS[method].build(tmp_path))
    assert_same(trained(METHODS[method].build(tmp_path, settings=dict(dataset_num_proc=2))), plain)


@ALL
def test_resuming_equals_never_having_stopped(method, tmp_path):
    settings = dict(max_steps=4, save_steps=2, lr_scheduler_type="linear")
    whole = METHODS[method].build(tmp_path, settings=dict(settings, save_strategy="steps"))
    expected = trained(whole)
    again = METHODS[method].build(tmp_path, settings=settings)
    found = trained(again, resume_from_checkpoint=str(tmp_path / "checkpoint-2"))
    assert_same(found, expected, atol=1e-6, rtol=1e-5)
    logs = [[row for row in one.state.log_history if row["step"] == 4 and "loss" in row] for one in (whole, again)]
    assert logs[0][0].get("num_tokens") == logs[1][0].get("num_tokens")
    again.train()  # a training from the start counts from the start
    first = next(row for row in again.state.log_history if "loss" in row)
    assert first.get("num_tokens") == whole.state.log_history[0].get("num_tokens")


@ALL
@pytest.mark.parametrize("max_steps", [2, 1])
def test_resuming_a_complete_training_adds_no_step(method, max_steps, tmp_path):
    settings = dict(max_steps=2, save_steps=1, lr_scheduler_type="constant")
    expected = trained(METHODS[method].build(tmp_path, settings=dict(settings, save_strategy="steps")))
    again = METHODS[method].build(tmp_path, settings={**settings, "max_steps": max_steps})
    found = trained(again, resume_from_checkpoint=str(tmp_path / "checkpoint-2"))
    assert again.state.global_step == 2
    assert_same(found, expected, atol=0, rtol=0)


@ALL
def test_the_card_shows_the_checkpoint_that_is_kept(method, tmp_path):
    data = Dataset.from_list(TEXTS)
    trainer = METHODS[method].build(
        tmp_path, eval_dataset=data,
        settings=dict(
            max_steps=4, eval_strategy="steps", eval_steps=1, save_strategy="steps", save_steps=1,
            load_best_model_at_end=True, metric_for_best_model="eval_loss", greater_is_better=True,
        ),
    )  # fmt: skip
    trainer.train()
    trainer.create_model_card()
    losses = {row["step"]: row["eval_loss"] for row in trainer.state.log_history if "eval_loss" in row}
    best = trainer.state.best_global_step
    assert losses[best] == max(losses.values()) and losses[best] != losses[4]
    assert f"| eval_loss | {losses[best]:.4g} |" in (tmp_path / "README.md").read_text()
    assert trainer.evaluate()["eval_loss"] == pytest.approx(losses[best], abs=1e-5)


@TRAIN_THE_POLICY
def test_recomputed_activations_give_the_same_weights(method, tmp_path):
    found = []
    for checkpointing in (False, True):
        for adapter in (None, LoraConfig(**LORA)):
            torch.manual_seed(0)
            trainer = METHODS[method].build(
                tmp_path, settings=dict(activation_checkpointing=checkpointing), peft_config=adapter
            )
            layers = [module for module in trainer.model.modules() if hasattr(module, "gradient_checkpointing")]
            found.append(trained(trainer))
            assert any(layer.gradient_checkpointing for layer in layers) == checkpointing
    assert_same(found[0], found[2], atol=1e-6, rtol=1e-5)
    assert_same(found[1], found[3], atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("module", ["lm_head", "embed_tokens", "norm"])
@TRAIN_THE_POLICY
def test_modules_that_are_trained_beside_an_adapter(method, module, tmp_path):
    trainer = METHODS[method].build(tmp_path, peft_config=LoraConfig(modules_to_save=[module], **LORA))
    before = weights(trainer)
    after = trained(trainer)
    whole = [name for name in before if "modules_to_save" in name and f".{module}." in name]
    assert whole and all(not torch.equal(before[name], after[name]) for name in whole)


@ALL
def test_the_batch_shrinks_where_memory_ends(method, tmp_path, monkeypatch):
    trainer = METHODS[method].build(tmp_path, settings=dict(auto_find_batch_size=True, max_steps=2))
    compute, sizes = trainer.compute_loss, []

    def with_little_memory(model, inputs, *args, **kwargs):
        sizes.append(trainer._train_batch_size)
        if trainer._train_batch_size > 2:
            raise RuntimeError("CUDA out of memory.")
        return compute(model, inputs, *args, **kwargs)

    monkeypatch.setattr(trainer, "compute_loss", with_little_memory)
    before = weights(trainer)
    trainer.train()
    assert sizes[0] == 4 and sizes[-1] == 2 and trainer.state.global_step == 2
    assert any(not torch.equal(value, before[name]) for name, value in weights(trainer).items())


@ALL
def test_training_stops_before_a_broken_update(method, tmp_path, monkeypatch):
    trainer = METHODS[method].build(
        tmp_path, settings=dict(max_steps=3, save_strategy="steps", save_steps=1, learning_rate=1e-3)
    )
    compute, kept = trainer._batch_loss, {}

    def breaks_in_the_second_step(model, inputs):
        batch = compute(model, inputs)
        if trainer.state.global_step == 0:
            return batch
        kept.update(weights(trainer))
        return replace(batch, terms=[replace(term, values=term.values * torch.nan) for term in batch.terms])

    monkeypatch.setattr(trainer, "_batch_loss", breaks_in_the_second_step)
    with pytest.raises(RuntimeError, match=r"loss of step 2 must be finite.*last checkpoint is '.*checkpoint-1'"):
        trainer.train()
    assert_same(weights(trainer), kept)
    assert sorted(path.name for path in tmp_path.glob("checkpoint-*")) == ["checkpoint-1"]


def test_a_gradient_that_is_not_finite_changes_nothing(tmp_path):
    trainer = METHODS["genarm"].build(tmp_path)
    trainer.model.lm_head.weight.register_hook(lambda gradient: gradient * torch.inf)
    before = weights(trainer)
    with pytest.raises(RuntimeError, match="gradient of step 1 must be finite"):
        trainer.train()
    assert_same(weights(trainer), before)


@ALL
def test_nothing_deprecated_is_used(method, tmp_path):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        trainer = METHODS[method].build(tmp_path, eval_dataset=Dataset.from_list(TEXTS))
        trainer.train()
        trainer.evaluate()


@ALL
def test_chat_template_from_a_file(method, tmp_path):
    template = "{% for message in messages %}{{ message['content'] + ' <eos> ' }}{% endfor %}"
    (tmp_path / "own.jinja").write_text(template)
    trainer = METHODS[method].build(tmp_path, settings=dict(chat_template_path=str(tmp_path / "own.jinja")))
    assert trainer.processing_class.chat_template == template
    assert trainer.args.chat_template_path == str(tmp_path / "own.jinja")
    trainer.train()


@pytest.mark.parametrize("rows", [0, 8], ids=["no spare rows", "spare rows"])
@pytest.mark.parametrize("adapter", [False, True], ids=["whole", "lora"])
@ALL
def test_chat_template_of_another_tokenizer(method, adapter, rows, tmp_path):
    if method == "elhsr" and adapter:
        pytest.skip("ELHSR leaves the policy as it is")
    source = tiny_tokenizer()
    source.add_tokens(["<turn>", "<end>"], special_tokens=True)
    source.eos_token = "<end>"
    source.chat_template = "{% for message in messages %}{{ '<turn> ' + message['content'] + ' <end> ' }}{% endfor %}"
    source.save_pretrained(tmp_path / "source")
    model = tiny_causal_lm()
    size = model.config.vocab_size + rows
    model.resize_token_embeddings(size)
    arguments = dict(
        settings=dict(chat_template_path=str(tmp_path / "source")), peft_config=LoraConfig(**LORA) if adapter else None
    )
    if rows == 0 and (adapter or method in ("sla", "elhsr")):
        with pytest.raises(ValueError, match=r"needs the tokens \['<turn>', '<end>'\].*no embeddings"):
            METHODS[method].build(tmp_path, model, CHATS, **arguments)
        return
    trainer = METHODS[method].build(tmp_path, model, CHATS, **arguments)
    trainer.train()
    assert trainer.processing_class.chat_template == source.chat_template
    assert model.config.eos_token_id == trainer.processing_class.eos_token_id == source.eos_token_id
    assert model.config.vocab_size == (size if rows else size + 2)


@ALL
def test_tokens_of_the_arguments_reach_model_and_tokenizer(method, tmp_path):
    model = tiny_causal_lm()
    trainer = METHODS[method].build(tmp_path, model, settings=dict(eos_token="w23"))
    assert trainer.processing_class.eos_token == "w23"
    assert model.config.eos_token_id == trainer.processing_class.convert_tokens_to_ids("w23")
    with pytest.raises(ValueError, match="`eos_token` must be a token of the tokenizer, got '<end>'"):
        METHODS[method].build(tmp_path, settings=dict(eos_token="<end>"))
    bare = tiny_tokenizer()
    bare.pad_token = None
    assert METHODS[method].build(tmp_path, processing_class=bare).processing_class.pad_token == "<eos>"


@ALL
def test_options_of_loading(method, tmp_path, named):
    kwargs = dict(dtype="bfloat16", attn_implementation="eager", revision="main")
    one = METHODS[method]
    trainer = one.build(tmp_path, named, settings=dict(model_init_kwargs=kwargs), processing_class=None)
    policy = getattr(trainer, "policy", trainer.model)
    policy = getattr(policy, "base", policy)
    assert policy.dtype == torch.bfloat16 and policy.config._attn_implementation == "eager"
    assert trainer.args.model_init_kwargs == kwargs
    assert one.build(tmp_path, named, settings=dict(model_init_kwargs={"num_labels": 1}), processing_class=None)


@ALL
def test_revision_and_remote_code_reach_model_and_tokenizer(method, tmp_path, named, monkeypatch):
    seen = []
    for auto in (AutoModelForCausalLM, AutoTokenizer):
        load = auto.from_pretrained
        monkeypatch.setattr(
            auto, "from_pretrained", lambda *args, load=load, **kwargs: seen.append(kwargs) or load(*args, **kwargs)
        )
    settings = dict(trust_remote_code=True, model_init_kwargs=dict(revision="abc", token="t", cache_dir=str(tmp_path)))
    METHODS[method].build(tmp_path, named, settings=settings, processing_class=None)
    assert len(seen) == 2
    for kwargs in seen:
        assert kwargs["trust_remote_code"] is True
        assert (kwargs["revision"], kwargs["token"], kwargs["cache_dir"]) == ("abc", "t", str(tmp_path))


@ALL
def test_an_adapter_by_name_is_trained_further(method, tmp_path, named):
    base = AutoModelForCausalLM.from_pretrained(named)
    adapted = get_peft_model(base, LoraConfig(init_lora_weights=False, **LORA))
    adapted.save_pretrained(tmp_path / "adapter")
    trainer = METHODS[method].build(tmp_path / "out", str(tmp_path / "adapter"), processing_class=tiny_tokenizer())
    policy = getattr(trainer, "policy", trainer.model)
    policy = getattr(policy, "base", policy)
    assert isinstance(policy, PeftModel)
    loaded = {name: value for name, value in policy.state_dict().items() if "lora_" in name}
    assert loaded and all(torch.equal(value, adapted.state_dict()[name]) for name, value in loaded.items())
    before = weights(trainer)
    assert any(not torch.equal(value, before[name]) for name, value in trained(trainer).items())


@ALL
def test_models_with_code_of_their_own(method, tmp_path, named):
    folder = tmp_path / "remote"
    shutil.copytree(named, folder)
    (folder / "modeling_own.py").write_text(
        "from transformers import LlamaConfig, LlamaForCausalLM\n"
        "class OwnConfig(LlamaConfig):\n    model_type = 'own'\n"
        "class OwnForCausalLM(LlamaForCausalLM):\n    config_class = OwnConfig\n"
    )
    config = json.loads((folder / "config.json").read_text())
    config.update(model_type="own", architectures=["OwnForCausalLM"])
    config["auto_map"] = {"AutoConfig": "modeling_own.OwnConfig", "AutoModelForCausalLM": "modeling_own.OwnForCausalLM"}
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(ValueError, match="trust_remote_code"):
        METHODS[method].build(tmp_path, str(folder), processing_class=tiny_tokenizer())
    arguments = dict(settings=dict(trust_remote_code=True), processing_class=None)
    if method == "fast-slow":  # a judge is saved whole
        with pytest.raises(ValueError, match="causal LM of a judge must be a model of transformers.*'own'"):
            METHODS[method].build(tmp_path / "out", str(folder), **arguments)
        arguments["peft_config"] = LoraConfig(**LORA)
    trainer = METHODS[method].build(tmp_path / "out", str(folder), **arguments)
    before = weights(trainer)
    assert any(not torch.equal(value, before[name]) for name, value in trained(trainer).items())
    trainer.save_model()


@ALL
@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (dict(activation_offloading=True), "`activation_offloading` must be False without an accelerator"),
        (dict(model_init_kwargs={"dtype": "float32"}), "`model_init_kwargs` must be None for a model that is loaded"),
    ],
)
def test_settings_without_effect_are_refused(method, settings, message, tmp_path):
    with pytest.raises(ValueError, match=message):
        METHODS[method].build(tmp_path, settings=settings)


@ALL
def test_arguments_are_refused_before_anything_is_loaded(method, tmp_path, named, monkeypatch):
    one, data = METHODS[method], Dataset.from_list(TEXTS)
    for rows, error, message in (
        (None, ValueError, "The train data must be a `Dataset` or `IterableDataset`, got None"),
        (DatasetDict(train=data), TypeError, r"must be one dataset, got the splits \['train'\]"),
        ((), TypeError, "got a `tuple`"),
    ):
        with pytest.raises(error, match=message), monkeypatch.context() as patch:
            patch.setattr(AutoModelForCausalLM, "from_pretrained", None)
            one.build(tmp_path, named, rows)
    with pytest.raises(ValueError, match="`max_steps` must be positive for an `IterableDataset`"):
        one.build(tmp_path, named, data.to_iterable_dataset(), settings=dict(max_steps=-1))
    with pytest.raises(ValueError, match=r"`model_init_kwargs\['num_labels'\]` must be 1, got 3"):
        one.build(tmp_path, named, settings=dict(model_init_kwargs={"num_labels": 3}))
    with pytest.raises(ValueError, match="`quantization_config` must be None for a model that is loaded"):
        one.build(tmp_path, quantization_config=object())
    with pytest.raises(TypeError, match="`peft_config` must be a `PeftConfig`, got a `dict`"):
        one.build(tmp_path, peft_config={"r": 4})
    with pytest.raises(ValueError, match="`peft_config` must be None"):
        one.build(tmp_path, get_peft_model(tiny_causal_lm(), LoraConfig(**LORA)), peft_config=LoraConfig(**LORA))
    with pytest.raises(ValueError, match="`processing_class` must be given: .* has no name"):
        one.build(tmp_path, processing_class=None)
    with pytest.raises(TypeError, match="`processing_class` must be a tokenizer, got a `list`"):
        one.build(tmp_path, processing_class=[1])


@ALL
@pytest.mark.parametrize("labels", [1, 3])
def test_classifiers_are_refused(method, labels, tmp_path):
    config = tiny_causal_lm().config
    config.num_labels = labels
    classifier = AutoModelForSequenceClassification.from_config(config)
    with pytest.raises(TypeError, match="must be a causal LM, got a `LlamaForSequenceClassification`"):
        METHODS[method].build(tmp_path, classifier)
    classifier.save_pretrained(tmp_path / "classifier")
    with pytest.raises(ValueError, match=r"LlamaForSequenceClassification.*has no weights for \['lm_head.weight'\]"):
        METHODS[method].build(tmp_path, str(tmp_path / "classifier"))


@ALL
def test_labels_of_a_causal_lm_are_left_alone(method, tmp_path):
    model = tiny_causal_lm()
    model.config.id2label, model.config.label2id = {0: "a", 1: "b", 2: "c"}, {"a": 0, "b": 1, "c": 2}
    trained(METHODS[method].build(tmp_path, model))
    assert model.config.num_labels == 3 and model.config.id2label[2] == "c"


@pytest.mark.filterwarnings("ignore")  # the compiler's own
@pytest.mark.parametrize("method", ["genarm", "sla and policy"])
def test_compiled_models_train_alike(method, tmp_path):
    def build(**settings):
        return METHODS[method].build(tmp_path, tiny_causal_lm(num_hidden_layers=1), settings=settings)

    found = trained(build(torch_compile=True, torch_compile_backend="eager"))
    assert_same(found, trained(build()), atol=1e-5, rtol=1e-4)
