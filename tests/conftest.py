"""Settings of the whole suite. Triton's mode is fixed when triton is imported, so it is chosen here, first."""

import os
import sys
from collections.abc import Iterator

assert "triton" not in sys.modules, "triton was imported before tests/conftest.py could choose its mode"

import pytest  # noqa: E402
import torch  # noqa: E402

if not torch.cuda.is_available():
    os.environ["TRITON_INTERPRET"] = "1"


def pytest_report_header() -> str:
    from sylvester import _library

    gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else "none"
    levels = f"{', '.join(_library.levels())} (runs {_library.isa()})"
    return f"sylvester: levels {levels} · torch {torch.__version__}, {torch.get_num_threads()} threads · GPU {gpu}"


@pytest.fixture(autouse=True)
def settled() -> Iterator[None]:
    """Every test starts from one seed and leaves the thread count as it was."""
    torch.manual_seed(0)
    threads = torch.get_num_threads()
    yield
    torch.set_num_threads(threads)
