# Every target sets up what it needs. Three environments: the pinned one, the newest and the oldest that are tested.
VENV := .venv
NEWEST := .venvs/newest
OLDEST := .venvs/oldest
PYTHON := $(VENV)/bin/python
READY := $(VENV)/.ready
IN_VLLM := $(patsubst %,tests/engines/test_vllm_%.py,llm states genarm)
QUICK := not slow and not gpu and not freshness and not vllm
DOCS := .venvs/docs
DEMO_ARGS := --output outputs/demo

.PHONY: test-vllm demo demo-llm docs figures release-check test test-newest test-oldest test-stack test-slow freshness lint signatures newest-versions architectures bench fuzz robustness clean

demo: $(READY)
	$(VENV)/bin/hf-reward-ext demo $(DEMO_ARGS)

# The same four methods on SmolLM2-135M-Instruct, in English; resumes.
demo-llm: $(READY)
	$(PYTHON) -m examples.demo_llm --output outputs/demo_llm

test: $(READY)
	OMP_NUM_THREADS=1 $(PYTHON) -m pytest -n 2 --dist worksteal -m "$(QUICK)"

test-newest: $(NEWEST)/.ready
	OMP_NUM_THREADS=1 $(NEWEST)/bin/python -m pytest -n 2 --dist worksteal -m "$(QUICK)"

test-oldest: $(OLDEST)/.ready
	OMP_NUM_THREADS=1 $(OLDEST)/bin/python -m pytest -n 2 --dist worksteal -m "$(QUICK)"

# Every decoding mode, a step of every trainer, every pipeline and a round trip through a repository.
test-stack: $(NEWEST)/.ready
	OMP_NUM_THREADS=1 $(NEWEST)/bin/python -m pytest -n 2 --dist worksteal -m "stack and $(QUICK)"

test-slow: $(READY)
	$(PYTHON) -m pytest -m slow

# With vLLM in its own environment: make test-vllm VLLM=path/to/vllm MODEL=folder-of-a-chat-model
test-vllm: $(READY)
	VLLM=$(VLLM) VLLM_MODEL=$(MODEL) OMP_NUM_THREADS=1 $(PYTHON) -m pytest -m vllm
	VLLM_MODEL=$(MODEL) OMP_NUM_THREADS=1 $(dir $(VLLM))python tests/in_vllm.py $(VENV) -m pytest -m vllm -W ignore $(IN_VLLM)

freshness: $(READY)
	$(PYTHON) -m pytest -m freshness -rs

lint: $(READY)
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/pyright --pythonpath $(PYTHON)
	$(VENV)/bin/typos
	$(PYTHON) -m pytest tests/test_imports.py

signatures: $(READY)
	$(PYTHON) tests/signatures.py

bench: $(READY)
	$(PYTHON) examples/benchmarks/elhsr.py

# The site in outputs/site, from the pages and docstrings; a broken link is an error.
docs: $(DOCS)/.ready
	NO_MKDOCS_2_WARNING=1 $(DOCS)/bin/mkdocs build --strict --quiet

# The pictures of the documentation, from the kept results in examples/results.
figures: $(READY)
	$(PYTHON) -m examples.figures

# Version, changelog, citation, tag, clean checkout, wheel and sdist, and the site; each thing that is missing is a line.
release-check: docs $(READY)
	$(PYTHON) tests/release.py

# What the package index serves now, recorded; the next `make test-newest` installs and runs it.
newest-versions:
	rm -rf $(NEWEST)
	python3 -m venv $(NEWEST)
	$(NEWEST)/bin/python -m pip install --quiet --editable '.[plot,test]'
	echo "# The newest versions that the test suite was run with; made by \`make newest-versions\`." > .ci/newest.txt
	$(NEWEST)/bin/python -m pip freeze --exclude-editable >> .ci/newest.txt
	touch $(NEWEST)/.ready

# Every causal LM of transformers through every use, on both sets; writes docs/architectures.md. Goes on where it stopped.
architectures: $(READY) $(NEWEST)/.ready
	OMP_NUM_THREADS=1 $(NEWEST)/bin/python examples/benchmarks/architecture_table.py
	OMP_NUM_THREADS=1 $(PYTHON) examples/benchmarks/architecture_table.py

fuzz: $(READY)
	HYPOTHESIS_PROFILE=fuzz OMP_NUM_THREADS=1 $(PYTHON) -m pytest tests/properties

# Malformed input, kills at random moments, full and read-only disks (as root), threads, leaks: half an hour on 2 quiet cores.
robustness: $(READY)
	OMP_NUM_THREADS=1 $(PYTHON) -W ignore tests/robustness/malformed.py --show foreign
	OMP_NUM_THREADS=1 $(PYTHON) -W ignore tests/robustness/kills.py
	OMP_NUM_THREADS=1 $(PYTHON) -W ignore tests/robustness/kills.py --processes 2 --kills 10 --output outputs/robustness/kills_two_processes.json
	OMP_NUM_THREADS=1 $(PYTHON) -W ignore tests/robustness/servers.py
	OMP_NUM_THREADS=1 $(PYTHON) -W ignore tests/robustness/disks.py
	OMP_NUM_THREADS=1 $(PYTHON) -W ignore tests/robustness/threads.py
	OMP_NUM_THREADS=1 $(PYTHON) -W ignore tests/robustness/leaks.py --plot outputs/robustness/leaks.png

clean:
	rm -rf $(VENV) .venvs outputs build dist *.egg-info

comma := ,
# torch first: its pinned build satisfies everybody else's range.
define install
	rm -rf $(@D)
	python3 -m venv $(@D)
	$(@D)/bin/python -m pip install --quiet --constraint $(1) torch
	$(@D)/bin/python -m pip install --quiet --constraint $(1) --editable '.[$(2)]'
	touch $@
endef

$(READY): pyproject.toml .ci/constraints.txt
	$(call install,.ci/constraints.txt,plot$(comma)test$(comma)lint)

$(NEWEST)/.ready: pyproject.toml .ci/newest.txt
	$(call install,.ci/newest.txt,plot$(comma)test)

$(OLDEST)/.ready: pyproject.toml .ci/oldest.txt
	$(call install,.ci/oldest.txt,plot$(comma)test)

$(DOCS)/.ready: .ci/docs.txt
	rm -rf $(@D)
	python3 -m venv $(@D)
	$(@D)/bin/python -m pip install --quiet --requirement .ci/docs.txt
	touch $@
