"""Arguments of a guided vLLM; tests/engines/test_vllm_genarm.py runs it."""

import json

import pytest
import torch

from hf_reward_ext.genarm import vllm_arguments
from hf_reward_ext.genarm.vllm_settings import GuideSettings, check_request


def test_they_are_json_and_are_read_back():
    found = vllm_arguments(["a/b", "c"], [0.5, -1], dtype="float32")
    settings = GuideSettings.of(json.loads(json.dumps(found["additional_config"])))
    assert settings == GuideSettings(["a/b", "c"], [0.5, -1.0], "float32")
    assert settings.alpha_of(None) == settings.alpha_of({"other": 1}) == [0.5, -1.0]
    assert settings.alpha_of({"genarm_alpha": 2}) == [2.0, 2.0]
    assert settings.alpha_of({"genarm_alpha": [0, 1]}) == [0.0, 1.0]
    assert vllm_arguments("a")["additional_config"]["genarm"] == {"guides": ["a"], "alpha": [1.0], "dtype": "auto"}


@pytest.mark.parametrize(("given", "error", "message"), [
    ((torch.nn.Linear(1, 1),), TypeError, "must be folders or names, .* got a `Linear`"),
    (([torch.nn.Linear(1, 1)],), TypeError, "must be folders or names, .* got a `Linear`"),
    (([],), ValueError, "`guides` must be at least one folder or name"),
    (("a", [1, 2]), ValueError, "`alpha` must be one number for each of 1 guides, got 2"),
    (("a", float("nan")), ValueError, "`alpha` must be a number, got nan"),
    (("a", "1"), TypeError, "`alpha` must be a number or a list of them, got a `str`"),
    (("a", [True]), TypeError, "`alpha` must be a number, got True"),
])  # fmt: skip
def test_what_is_refused(given, error, message):
    with pytest.raises(error, match=message):
        vllm_arguments(*given)


def test_other_types_conditioned_guides_and_missing_settings_are_refused(tmp_path):
    with pytest.raises(ValueError, match="`dtype` must be one of"):
        vllm_arguments("a", dtype="float8")
    (tmp_path / "conditioned_guide.json").write_text("{}")
    with pytest.raises(ValueError, match="must be plain guides, got the conditioned guide"):
        vllm_arguments(str(tmp_path))
    for config in ({}, None, {"other": 1}):
        with pytest.raises(ValueError, match="`additional_config` must have 'genarm'"):
            GuideSettings.of(config)


@pytest.mark.parametrize("alpha", ["1", float("inf"), [float("nan")], True])
def test_weights_of_a_request_that_are_no_numbers(alpha):
    with pytest.raises((TypeError, ValueError), match="`genarm_alpha` must be"):
        check_request({"genarm_alpha": alpha})
    check_request({"genarm_alpha": 0.5})
    check_request(None)
