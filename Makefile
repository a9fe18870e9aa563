# `make demo` and `make test` set everything up by themselves: a virtual environment with pinned packages in .venv and
# the compiled library. Needs Python >= 3.10 with venv, g++ and make. The second run finds its stamps and starts at once.

PYTHON ?= python3
BIN := .venv/bin
# Without an NVIDIA driver the CPU build of torch is enough: 200 MB instead of several GB.
TORCH_INDEX ?= $(if $(shell command -v nvidia-smi),https://pypi.org/simple,https://download.pytorch.org/whl/cpu)
TORCH := $(shell sed -n 's/^torch==/torch==/p' constraints.txt)
# Byte code of what is never imported need not be compiled.
PIP := $(BIN)/python -m pip install --quiet --no-compile --disable-pip-version-check
LIBRARY := python/sylvester/libsylvester.so
SOURCES := CMakeLists.txt setup.py pyproject.toml $(shell find csrc -type f)

# torch's modules are compiled when they are first imported; kept, or every process of the tests would do it again.
export PYTHONDONTWRITEBYTECODE :=

.DELETE_ON_ERROR:
.PHONY: demo test setup lint format bench clean missing-library

demo: setup
	$(BIN)/sylvester info
	$(BIN)/sylvester check
	$(BIN)/sylvester bench --quick --out runs/bench
	$(BIN)/sylvester train copy --length 200 --out runs/copy-200
	$(BIN)/sylvester eval runs/copy-200

test: lint
	$(BIN)/python -m mypy
	@# Threads that wait for work must not keep the other workers' from it.
	OMP_WAIT_POLICY=passive $(BIN)/pytest -n logical --maxprocesses 8 --dist loadgroup

lint: setup
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/clang-format --dry-run -Werror $$(find csrc -name '*.h' -o -name '*.cpp')

format: setup
	$(BIN)/ruff check --fix
	$(BIN)/ruff format
	$(BIN)/clang-format -i $$(find csrc -name '*.h' -o -name '*.cpp')

bench: setup
	$(BIN)/sylvester bench --out runs/bench

setup: .venv/built

.venv/installed: constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10))' || \
		{ echo 'sylvester needs Python >= 3.10: make PYTHON=/path/to/python3'; exit 1; }
	@$(PYTHON) -m venv .venv || { echo 'no virtual environment: apt-get install python3-venv'; exit 1; }
	@echo 'installing $(TORCH) and the packages pinned in constraints.txt'
	@# A wheel at hand (PIP_FIND_LINKS) is taken before any index is asked.
	@$(PIP) --no-index --no-deps $(TORCH) 2>/dev/null || $(PIP) --extra-index-url $(TORCH_INDEX) $(TORCH)
	@grep -v '^torch==' constraints.txt > .venv/constraints.txt
	@$(PIP) -r .venv/constraints.txt
	@touch $@

.venv/built: .venv/installed $(SOURCES) $(if $(wildcard $(LIBRARY)),,missing-library)
	@echo 'compiling'
	@$(PIP) --no-build-isolation --no-deps --editable .
	@touch $@

clean:
	rm -rf .venv build dist runs python/*.egg-info *.egg-info $(LIBRARY)
