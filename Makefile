PYTHON ?= python
PYTEST = $(PYTHON) -m pytest
# Each process of `pytest -n 2` has a core: the libraries in it are not to take two.
ONE_THREAD = OMP_NUM_THREADS=1
IN_TWO = -n 2 --dist loadgroup --no-loadscope-reorder

.PHONY: check lint types test quick slow mutants lowest lock locked sbom reference bench

check: lint types test

lint:
	$(PYTHON) -m ruff check .
	$(PYTHON) -m ruff format --check .

types:
	$(PYTHON) -m mypy

test:
	$(ONE_THREAD) $(PYTEST) $(IN_TWO)

# Before each commit, in two to three minutes: bundles, engines, runtime, scores, server and house. Left out
# are tests/keyvid_ref, parity, export, bench and mutation, processes that are killed, and single
# tests that take more than a second of processor time (marked "long"), clips of networks among them.
QUICK = tests/bundle tests/engines tests/runtime tests/score tests/serve \
    tests/test_docs.py tests/test_house.py tests/test_sampling.py tests/test_sizes.py
quick:
	$(ONE_THREAD) $(PYTEST) -q $(IN_TWO) -m "not slow and not gpu and not long" $(QUICK)

# What takes minutes: before a release, with the packages and the browser of .ci/run.
slow:
	$(PYTEST) -m "slow and not gpu"

# Single changes of MODULE that no test sees, COUNT by chance. They are gaps, or change nothing.
MODULE ?= keyvid/runtime/diffusion/noise.py
COUNT ?= 10
SEED ?= 0
mutants:
	$(PYTHON) -m tests.mutants $(MODULE) --count $(COUNT) --seed $(SEED)

# What a user does first, with the lowest versions that pyproject.toml allows, without torch.
lowest:
	rm -rf build  # with what an older build left there, which a wheel would take in
	$(PYTHON) -m uv venv --quiet --python $(PYTHON) build/lowest
	$(PYTHON) -m uv pip install --quiet --python build/lowest/bin/python \
	    --resolution lowest-direct '.[cpu]'
	PATH="$(CURDIR)/build/lowest/bin:$$PATH" .ci/smoke

# What a deployment installs, with hashes: `make lock` brings it up to date, `make locked` tries it.
LOCK = $(PYTHON) -m uv pip compile --quiet --upgrade --universal --python-version 3.11 \
    --generate-hashes --no-annotate --custom-compile-command "make lock"
lock:
	$(LOCK) --extra cpu --extra serve -o deploy/requirements.txt pyproject.toml
	$(PYTHON) -c 'import tomllib; print(*tomllib.load(open("pyproject.toml", "rb"))["build-system"]["requires"])' \
	    | $(LOCK) -o deploy/build-requirements.txt -

# The same as `lowest`, with what the lock has; serving, too.
locked:
	rm -rf build
	$(PYTHON) -m uv venv --quiet --python $(PYTHON) build/locked
	$(PYTHON) -m uv pip install --quiet --python build/locked/bin/python --require-hashes \
	    --only-binary :all: -r deploy/requirements.txt
	$(PYTHON) -m uv pip install --quiet --python build/locked/bin/python --no-deps .
	$(PYTHON) -m uv pip check --python build/locked/bin/python
	PATH="$(CURDIR)/build/locked/bin:$$PATH" .ci/smoke

# What is in a deployment, as CycloneDX, from the environment that `make locked` left.
sbom: locked
	$(PYTHON) -m uv tool run --from 'cyclonedx-bom>=7' cyclonedx-py environment \
	    --pyproject pyproject.toml -o build/keyvid.cdx.json build/locked/bin/python

# The Python interface as pages, from its docstrings; a warning is an error.
INTERFACE = keyvid.runtime.pipeline keyvid.runtime.request keyvid.runtime.clip keyvid.vocabulary \
    keyvid.sampling keyvid.errors keyvid.runtime.media.picture keyvid.runtime.media.sound \
    keyvid.runtime.media.video keyvid.bundle.manifest keyvid.engines.engine keyvid.engines.spec
reference:
	$(PYTHON) -W error -m pdoc --docformat google --no-show-source -o build/reference $(INTERFACE)

bench:
	$(PYTEST) bench
