"""Shapes in signatures are really checked while the tests run."""

import pytest
import torch
from jaxtyping import TypeCheckError

from hf_reward_ext.base.lm.candidates import Candidates
from hf_reward_ext.base.options import check_choice
from hf_reward_ext.base.training.token_rewards import gather_token_logps, masked_sum

VALUES, MASK = torch.ones(2, 3), torch.ones(2, 3, dtype=torch.bool)


@pytest.mark.parametrize(
    ("function", "arguments"),
    [
        (masked_sum, (VALUES, MASK[:, :2])),
        (masked_sum, (VALUES[0], MASK[0])),
        (masked_sum, (VALUES, MASK.long())),
        (gather_token_logps, (torch.ones(2, 3, 5), torch.ones(2, 4, dtype=torch.long))),
    ],
    ids=["an axis of another length", "an axis too few", "another type", "targets of another length"],
)
def test_functions_refuse_what_their_signature_does_not_name(function, arguments):
    with pytest.raises(TypeCheckError, match=function.__name__):
        function(*arguments)


def test_so_do_fields_of_dataclasses():
    with pytest.raises(TypeCheckError, match="num_tokens"):
        Candidates(torch.ones(2, 3).long(), torch.ones(4).long(), torch.zeros(2, dtype=torch.bool))


def test_what_fits_passes_and_functions_without_shapes_are_left_as_they_are():
    assert masked_sum(VALUES, MASK).tolist() == [3.0, 3.0]
    assert hasattr(masked_sum, "__wrapped__") and not hasattr(check_choice, "__wrapped__")
