import pytest
import torch


def pytest_collection_modifyitems(items):
    for item in items:
        if item.path.parent.name == "gpu":
            item.add_marker(pytest.mark.gpu)


@pytest.fixture(scope="session")
def device():
    if not torch.accelerator.is_available():
        pytest.skip("there is no accelerator on this machine")
    return torch.accelerator.current_accelerator()
