# `make demo` and `make test` set up what they need; everything is installed at the tested versions.
VENV := .venv
PYTHON := $(VENV)/bin/python
READY := $(VENV)/.ready
CONSTRAINTS := .ci/constraints.txt
DEMO_ARGS := --output outputs/demo

.PHONY: demo test test-slow lint docs bench clean

demo: $(READY)
	$(VENV)/bin/hf-reward-ext demo $(DEMO_ARGS)

test: $(READY)
	OMP_NUM_THREADS=1 $(PYTHON) -m pytest -n 2 -m "not slow and not gpu"

test-slow: $(READY)
	$(PYTHON) -m pytest -m slow

lint: $(READY)
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/pyright --pythonpath $(PYTHON)
	$(PYTHON) -m pytest tests/test_imports.py

bench: $(READY)
	$(PYTHON) examples/benchmarks/elhsr.py

clean:
	rm -rf $(VENV) outputs build dist *.egg-info

# torch first: its pinned build satisfies everybody else's range.
$(READY): pyproject.toml $(CONSTRAINTS)
	python3 -m venv $(VENV)
	$(PYTHON) -m pip install --quiet --constraint $(CONSTRAINTS) torch
	$(PYTHON) -m pip install --quiet --constraint $(CONSTRAINTS) --editable '.[plot,test,lint]'
	touch $(READY)
