# Everything runs in .venv, which is made from requirements.lock (hashes) the first time and when the lock changes.

PRESET ?= quick
# The first Python that is new enough; name another with PYTHON=...
PYTHON ?= $(shell for each in python3 python3.14 python3.13 python3.12 python3.11; do \
	$$each -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$each && break; done)
# Where torch and torchvision come from if not from the package index: an index of CPU builds, or of another CUDA. The
# versions stay the lock's; hashes are then checked of everything else.
TORCH_INDEX ?=
# Extra words for snakemake or pytest: make reproduce ARGS=--dry-run, make test ARGS="-k gates".
ARGS ?=
# How many studies `make kill-test` kills.
N ?= 40
# What `make docs` makes: html, or linkcheck, which asks the network whether links that leave the site work.
DOCS ?= html

# Every run is a process of its own: without stored bytecode each would compile its imports again, for seconds.
unexport PYTHONDONTWRITEBYTECODE

# Snakemake and uv keep a cache in the home folder; where there is none that can be written, here. In a checkout that
# cannot be written either Snakemake says so, once it has a cache. It cannot even start where no home is named, nor known.
HOME_CACHE = $(shell cache="$${XDG_CACHE_HOME:-$${HOME:+$$HOME/.cache}}"; mkdir -p "$$cache" 2>&- && test -w "$$cache" && echo there)
ifneq ($(HOME_CACHE),there)
export HOME ?= /
export XDG_CACHE_HOME := $(shell mkdir -p .snakemake/cache 2>&- && test -w .snakemake/cache && echo "$$(pwd)/.snakemake/cache" || mktemp -d)
endif

BIN := .venv/bin
UV := $(BIN)/uv pip install --quiet --python $(BIN)/python
# What torch of the package index brings along, and torch itself.
OF_TORCH := torch|torchvision|triton|nvidia-[a-z0-9-]+|cuda-[a-z]+
INSTALLED := .venv/.installed
# Targets go before --config, which takes every word after it.
SNAKEMAKE := $(BIN)/snakemake
CHOICE = --config preset=$(PRESET)
REPORT := report/$(PRESET).html
# One thread a test process: torch processes that share cores with more threads than cores crawl.
PYTEST := OMP_NUM_THREADS=1 MKL_NUM_THREADS=1 $(BIN)/python -m pytest --numprocesses logical --maxprocesses 4 --dist worksteal

.DEFAULT_GOAL := help
.PHONY: help install reproduce report article crate verify test kill-test bench docs lint lock unlock

help: ## this list
	@grep -E '^[a-z-]+:.*##' Makefile | sed -E 's/:.*## /\t/' | expand -t 12

install: $(INSTALLED) ## the environment .venv, from requirements.lock

$(INSTALLED): requirements-bootstrap.lock requirements.lock pyproject.toml
	@"$(PYTHON)" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || \
		{ echo "Error: Python 3.11 or newer is needed (python3 is $$(python3 -V 2>&1)); name one: make PYTHON=..." >&2; exit 1; }
	@$(BIN)/python -m pip --version >/dev/null 2>&1 || $(PYTHON) -m venv --clear .venv || \
		{ echo "Error: $(PYTHON) cannot make .venv; on Debian and Ubuntu install python3-venv" >&2; exit 1; }
	@echo "Installing requirements.lock into .venv (minutes the first time, 5 GB with torch)"
	@$(BIN)/python -m pip install --quiet --require-hashes -r requirements-bootstrap.lock
ifeq ($(TORCH_INDEX),)
	@$(UV) --require-hashes -r requirements.lock
else
	@awk '/^[^ ]/ {of_torch = /^($(OF_TORCH))==/} !of_torch' requirements.lock > .venv/without-torch.lock
	@$(UV) --require-hashes --no-deps -r .venv/without-torch.lock
	@$(UV) --index "$(TORCH_INDEX)" $$(grep -oE '^(torch|torchvision)==[^ ]+' requirements.lock)
endif
	@$(UV) --no-deps --no-build-isolation --editable .
	@touch $@

reproduce: $(INSTALLED) ## runs, tables, figures and report of PRESET=quick (default), laptop or paper
	@$(SNAKEMAKE) $(ARGS) $(CHOICE)
	@$(MAKE) --no-print-directory report
	@echo "Tables:  results/$(PRESET)/tables/"
	@echo "Figures: figures/$(PRESET)/"
	@echo "Report:  $(REPORT)"

# In a fresh clone the pages that the report shows are drawn first, from the committed records; nothing is trained. What
# Snakemake says of files that it did not make itself is left out.
report: $(INSTALLED) ## one HTML file with every figure and table of PRESET, renewed if one of them changed
	@test -d results/$(PRESET)/tables || { echo "Error: no results/$(PRESET)/tables; run: make reproduce PRESET=$(PRESET)" >&2; exit 1; }
	@test -f results/$(PRESET)/claims.html -a -d figures/$(PRESET) || $(SNAKEMAKE) partial $(CHOICE)
	@mkdir -p report
	@if [ -z "$$(find results/$(PRESET) figures/$(PRESET) workflow -newer $(REPORT) -print -quit 2>&1)" ]; \
		then echo "$(REPORT) is up to date"; else rm -f $(REPORT); \
		$(SNAKEMAKE) --report $(REPORT) --report-stylesheet workflow/report/report.css $(CHOICE) 2>&1 \
			| grep -v '^Missing metadata'; test -f $(REPORT); fi

# The committed results, if no preset is named: the article of a preset that has not been run would be empty.
article: PRESET := $(if $(filter file,$(origin PRESET)),laptop,$(PRESET))
article: $(INSTALLED) ## a short PDF on PRESET (default: laptop): method, tables, figures, claims, deviations
	@test -d figures/$(PRESET) || $(SNAKEMAKE) partial $(CHOICE)
	@mkdir -p report
	@PYTHONPATH=src $(BIN)/python workflow/scripts/article.py $(PRESET) report/$(PRESET)-article.pdf
	@echo "Article: report/$(PRESET)-article.pdf"

crate: $(INSTALLED) ## the study of PRESET as a Workflow Run RO-Crate, one file to deposit
	@mkdir -p report
	@PYTHONPATH=src $(BIN)/python workflow/scripts/crate.py $(PRESET) report/$(PRESET)-crate.zip

verify: $(INSTALLED) ## is every record of PRESET there, current and plausible?
	@$(SNAKEMAKE) verify $(CHOICE)

test: $(INSTALLED) ## all tests that need no downloaded data (real data: LAYERPRUNE_DATA=<folder with mnist/>)
	@$(PYTEST) $(ARGS)

kill-test: $(INSTALLED) ## kill N=40 studies at random moments and resume them: are the numbers the same?
	@$(BIN)/python -m tests.kills $(N)

bench: $(INSTALLED) ## speed, measured side by side
	@OMP_NUM_THREADS=1 $(BIN)/python -m bench $(ARGS)

docs: $(INSTALLED) ## the documentation as a site that needs no network (DOCS=linkcheck: check its outside links)
	@mkdir -p site/$(DOCS) 2>/dev/null && test -w site/$(DOCS) || { echo "Error: site/$(DOCS) cannot be written" >&2; exit 1; }
	@$(BIN)/python -m sphinx --builder $(DOCS) --fresh-env --write-all --fail-on-warning --keep-going --quiet \
		docs site/$(DOCS)
	@echo "Documentation: site/$(DOCS)/"

lint: $(INSTALLED) ## style of the code, the workflow, Markdown and the English
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/snakefmt --check Snakefile workflow
	@$(BIN)/snakemake --lint
	@$(BIN)/rumdl check --quiet .
	@$(BIN)/python workflow/scripts/prose.py
	@$(BIN)/proselint check --config .proselintrc.json README.md docs/*.md docs/*/*.md

lock: $(INSTALLED) ## new locks from requirements.in; then carry the pins to environment.yml, a test compares
	@$(BIN)/uv pip compile --quiet --upgrade --universal --python-version 3.11 --generate-hashes --no-header \
		requirements.in --output-file requirements.lock
	@awk '/^[^ ]/ {own = /^uv==/} own && !/# via/' requirements.lock > requirements-bootstrap.lock

unlock: $(INSTALLED) ## after a kill -9 or power cut: free the working folder
	@$(SNAKEMAKE) --unlock $(CHOICE)
