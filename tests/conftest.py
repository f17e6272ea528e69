import gc
import sys
from pathlib import Path

import pytest
import torch

sys.path.insert(0, str(Path(__file__).parent))
import shape_checks  # noqa: E402

shape_checks.install()


def pytest_collection_finish(session):
    """Leaves the million objects of imported modules out of garbage collections, which every training begins with."""
    gc.freeze()


SHARED = Path(__file__).resolve().parents[2] / "shared"


@pytest.fixture(autouse=True)
def seeded():
    torch.manual_seed(0)


@pytest.fixture(scope="session")
def fixtures_dir():
    """Numbers from the authors' own code; they are not part of this repository."""
    if not (SHARED / "fixtures").is_dir():
        pytest.skip("the authors' fixtures are not on this machine")
    return SHARED / "fixtures"


@pytest.fixture(scope="session")
def shared_models_dir():
    """Small pretrained language models; they are not part of this repository."""
    if not (SHARED / "models").is_dir():
        pytest.skip("the small pretrained models are not on this machine")
    return SHARED / "models"


@pytest.fixture(scope="session")
def shared_data_dir():
    """Small real data sets; they are not part of this repository."""
    if not (SHARED / "data").is_dir():
        pytest.skip("the small data sets are not on this machine")
    return SHARED / "data"
