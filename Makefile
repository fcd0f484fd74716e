# Each target that needs the environment asks for `setup` first, which is instant once it is done.
PYTHON ?= python3
SEED ?= 1
JOBS ?= 200
PATH ?= /usr/local/bin:/usr/bin:/bin
export PATH
# Another project's Python settings must not reach into this one's environment.
unexport PYTHONHOME PYTHONPATH VIRTUAL_ENV

.DEFAULT_GOAL := help
.SILENT:
.PHONY: help setup demo up test test-slow chaos bench-queue bench-sweep check docs pins clean

help: ## List what can be done
	grep -E '^[a-z-]+:.*## ' Makefile | sed -E 's/^([a-z-]+):.*## (.*)/make \1\t\2/' | expand -t 16

setup: ## Prepare .venv with everything in it (about 10 minutes the first time, then instant)
	$(PYTHON) -I setup

demo: setup ## Quantize a small model on the whole stack and print what was lost
	.venv/bin/python -m demo

up: setup ## Run the service on this machine until Ctrl-C
	.venv/bin/fewbitsd up

test: setup ## Run the tests, but for those that take longest
	.venv/bin/pytest -n 2 --dist loadfile -m "not slow and not gpu"

test-slow: setup ## Run the tests that take longest
	.venv/bin/pytest -n 2 --dist loadfile -m "slow and not gpu"

chaos: setup ## Break the whole stack on purpose, and count what is lost or done twice (SEED=1 JOBS=200)
	.venv/bin/python -m tests.chaos --seed $(SEED) --jobs $(JOBS)

bench-queue: setup ## Measure the queue beside Celery, procrastinate and pgqueuer
	.venv/bin/python -m bench.queue

bench-sweep: setup ## Time a sweep of six GGUF levels beside llama.cpp's own tools (about an hour)
	.venv/bin/python -m bench.sweep

check: setup ## Lint, check types and layers, and compare the migrations with the tables
	.venv/bin/ruff check
	.venv/bin/ruff format --check
	.venv/bin/mypy
	.venv/bin/lint-imports
	.venv/bin/fewbitsd migrate --check

docs: setup ## Write docs/methods.md and docs/fewbits.schema.json anew, after a method or the schema was changed
	.venv/bin/python -m engines.methods_page > docs/methods.md
	.venv/bin/python -m pipeline.provenance > docs/fewbits.schema.json

pins: ## Renew constraints.txt after a dependency was changed in pyproject.toml
	$(PYTHON) -I setup pins

clean: ## Remove .venv, .data and caches here; llama.cpp's wheel stays in ~/.cache/fewbits
	rm -rf .venv .data build .hypothesis .import_linter_cache .mypy_cache .pytest_cache .ruff_cache
	find . -name .git -prune -o \( -name __pycache__ -o -name '*.egg-info' \) -prune -exec rm -rf {} +
