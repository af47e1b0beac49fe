# Two commands do everything on a fresh machine: `make validate` and `make test`.
# The virtual environment is made on first use, from constraints.txt.

PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready-$(shell cat pyproject.toml constraints.txt | cksum | cut -d' ' -f1)
PYTEST = $(BIN)/python -m pytest --contract contracts -q -n 3 --dist worksteal
STEP = sh -c 'echo "== $$*"; t=$$(date +%s); "$$@"; e=$$?; \
	echo "== $$(($$(date +%s) - t)) s, exit $$e: $$*"; exit $$e' step

# Compiled modules are kept, or each of many processes would compile the project again.
unexport PYTHONDONTWRITEBYTECODE
# llama.cpp is built for this very processor, and kept by pip for the next time; so a cache belongs to
# one kind of processor. Its AMX code ends the process where a hypervisor shows AMX and lacks it.
NO_AMX := $(shell cc -mno-amx-int8 -E -x c /dev/null >/dev/null 2>&1 && echo -mno-amx-int8)
LLAMA_CMAKE := -DGGML_NATIVE=ON -DCMAKE_C_FLAGS=$(NO_AMX) -DCMAKE_CXX_FLAGS=$(NO_AMX)
LLAMA_CACHE = $(HOME)/.cache/tollens-$(shell (echo "$(LLAMA_CMAKE)"; \
	grep -m1 ^flags /proc/cpuinfo) 2>/dev/null | cksum | cut -d' ' -f1)
# Huge pages: some falsifiers fork hundreds of times, and a fork copies the page table.
export GLIBC_TUNABLES ?= glibc.malloc.hugetlb=1

.PHONY: help validate test oracles evidence distill-demo docs clean
.DEFAULT_GOAL := help

help:
	@echo "make validate   run every contract's falsifiers; exit 1 if anything does not hold"
	@echo "make test       lint, types, and every falsifier under every planted fault"
	@echo "make oracles    add llama.cpp (built here) and triton, whose falsifiers are BLOCKED without"
	@echo "make evidence   run everything and record what changed, to commit it"
	@echo "make distill-demo  a teacher, a student, files, a server, verdicts; in build/demo"
	@echo "make docs       build the documentation's site in build/site"
	@echo "make clean      remove the virtual environment and the caches"

$(READY):
	@$(STEP) $(PYTHON) -m venv --clear $(VENV)
	@$(STEP) $(BIN)/python -m pip install --quiet --disable-pip-version-check \
		--constraint constraints.txt --editable '.[engine,plot,serve,sign,dev]' transformers
	@touch $@

oracles: $(READY)
	@CMAKE_ARGS="$(LLAMA_CMAKE)" $(STEP) $(BIN)/python -m pip install --quiet \
		--disable-pip-version-check --cache-dir $(LLAMA_CACHE) --constraint constraints.txt \
		--editable '.[oracles,gpu]'

validate: $(READY)
	@e=0; $(STEP) $(PYTEST) || e=1; \
	$(STEP) $(BIN)/tollens check || e=1; \
	$(STEP) $(BIN)/tollens verify || e=1; exit $$e

test: $(READY)
	@$(STEP) $(BIN)/ruff check .
	@$(STEP) $(BIN)/ruff format --check .
	@$(STEP) $(BIN)/mypy
	@$(STEP) $(PYTEST) --sabotage --record=never

evidence: $(READY)
	@env -u CI $(STEP) $(PYTEST) --sabotage --record=auto
	@$(STEP) $(BIN)/tollens check

# From the standard library's source to a model that is served and judged; every stage is kept, and
# a run that was stopped goes on. The windows are as many as two cores can learn from in minutes.
DEMO := build/demo
TRAIN = sh -c 'run=$$1; shift; test -e $$run/dispatch.json && set -- --resume $$run || \
	set -- "$$@" --out $$run; $(BIN)/python -m engine distill "$$@"' train
LESSONS = --data $(DEMO)/corpus --batch 8 --seq-len 128 --learning-rate 3e-3 --warmup 50 \
	--temperature 1 --heldout-every 100 --heldout-windows 64 --save-every 100

distill-demo: | $(DEMO)/student
	@env -u CI DISTILL_DEMO_PATH=$(DEMO) $(STEP) $(BIN)/python -m pytest -q --record=never \
		--contract contracts/distill-demo-v1.yaml --contract contracts/chat-template-v1.yaml \
		--contract contracts/gguf-prompt-sensitivity-v1.yaml \
		--contract contracts/qwen3-moe-serve-dispatch-v1.yaml

$(DEMO)/corpus: | $(READY)
	@$(STEP) $(BIN)/python -m engine corpus --stdlib --out $@ --train-vocabulary 2048

$(DEMO)/teacher: | $(DEMO)/corpus
	@$(STEP) $(TRAIN) $@-run --teacher none --alpha 1 --student docs/demo/teacher.json \
		--steps 1000 $(LESSONS)
	@$(STEP) $(BIN)/python -m engine publish $@-run/best --out $@ --quantize Q4_K_M

$(DEMO)/student: | $(DEMO)/teacher
	@$(STEP) $(TRAIN) $@-run --teacher $(DEMO)/teacher/teacher-Q4_K_M.gguf --alpha 0.3 --student \
		docs/demo/student.json --steps 1000 $(LESSONS)
	@$(STEP) $(BIN)/python -m engine publish $@-run/best --out $@ --quantize Q4_K_M \
		--evidence $@-run/dispatch.json --evidence $@-run/metrics.jsonl

docs: $(READY)
	@$(STEP) $(BIN)/python -m mkdocs --quiet build --strict
	@echo "open build/site/index.html"

clean:
	rm -rf $(VENV) .tollens .pytest_cache .mypy_cache .ruff_cache .hypothesis build *.egg-info
