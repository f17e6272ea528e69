from pathlib import Path

import pytest
from launched import launch
from method_trainers import CLASSES
from two_processes import train

SCRIPT = Path(__file__).with_name("two_processes.py")


@pytest.fixture(scope="module")
def ranks(tmp_path_factory):
    """Results of two processes."""
    return launch(SCRIPT, tmp_path_factory.mktemp("two"))


@pytest.mark.parametrize("method", CLASSES)
def test_two_processes_train_as_one_where_the_last_batch_is_not_full(ranks, method, tmp_path):
    """accelerate repeats rows of the beginning there, so that both processes have as many."""
    alone = train(method, tmp_path, batch=8)
    for rank in ranks:
        found = rank[method]
        assert found["processes"] == 2
        assert found["weights"] == pytest.approx(alone["weights"], rel=1e-3, abs=1e-5)
        assert found["metrics"] == pytest.approx(alone["metrics"], rel=1e-3, abs=1e-5)
        assert (found["calibration"] or 0) == pytest.approx(alone["calibration"] or 0, rel=1e-2)
        for row, other in zip(found["logged"], alone["logged"], strict=True):
            assert row == pytest.approx(other, rel=1e-3, abs=1e-5)
