PYTHON ?= python

.PHONY: check lint types test lowest bench

check: lint types test

lint:
	$(PYTHON) -m ruff check .
	$(PYTHON) -m ruff format --check .

types:
	$(PYTHON) -m mypy

test:
	$(PYTHON) -m pytest

# What a user does first, with the lowest versions that pyproject.toml allows, without torch.
lowest:
	rm -rf build  # with what an older build left there, which a wheel would take in
	$(PYTHON) -m uv venv --quiet --python $(PYTHON) build/lowest
	$(PYTHON) -m uv pip install --quiet --python build/lowest/bin/python \
	    --resolution lowest-direct '.[cpu]'
	PATH="$(CURDIR)/build/lowest/bin:$$PATH" .ci/smoke

bench:
	$(PYTHON) -m pytest bench
