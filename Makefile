# Every target sets up what it needs in .venv.
PYTHON ?= python3
BIN := .venv/bin
OUT ?= demo

.PHONY: help demo docs figures test test-browser test-oldest fuzz lint types wheel bench clean
.PHONY: test-gpu bench-gpu bench-gpu-op bench-gpu-model bench-gpu-record

help:  ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## /{printf "%-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

.venv/ready: pyproject.toml
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet --editable '.[coco,notebook,onnx,upernet]' --group dev
	touch $@

docs: .venv/ready  ## build and check the pages in build/docs, offline; runs gallery, notebook and first page
	$(BIN)/python -m pip install --quiet --group docs
	OMP_NUM_THREADS=1 $(BIN)/python docs/builder/start.py & start=$$! && \
	OMP_NUM_THREADS=1 $(BIN)/python -m sphinx -q -W --keep-going -b html -d build/doctrees -c docs . build/docs && wait $$start
	$(BIN)/python docs/builder/check.py build/docs

figures: .venv/ready  ## draw the figures of README and docs anew, and store the numbers of the gallery
	$(BIN)/python docs/builder/figures.py
	ATMVIZ_DOCS=store $(MAKE) docs

demo: .venv/ready  ## draw the figures of README and docs into OUT
	$(BIN)/atmviz overlay assets/photos/rocket.jpg --layer 3_1,4_2 --query 0.49,0.72 --width text --dpi 95 --out $(OUT)
	$(BIN)/atmviz histogram --layer 2_1,3_1,3_18 --out $(OUT)
	$(BIN)/atmviz histogram --layer 2_1,3_1,3_18 --tokens all --out $(OUT)

test: .venv/ready  ## the whole suite, CPU, no network
	$(BIN)/python -m pytest -n auto --dist worksteal

test-browser: .venv/ready  ## the explorer in Debian's chromium, which is installed where that is allowed
	command -v chromium || (apt-get update -qq && apt-get install -y -qq --no-install-recommends chromium) || echo "no chromium: the tests skip"
	$(BIN)/python -m pip install --quiet --group browser || echo "no playwright: the tests skip"
	$(BIN)/python -m pytest -n 2 -rs tests/explorer/browser

test-oldest:  ## the suite with the oldest allowed version of every dependency
	$(PYTHON) -m venv .venv-oldest
	.venv-oldest/bin/python -m pip install --quiet uv
	.venv-oldest/bin/uv pip install --quiet --python .venv-oldest --resolution lowest-direct --editable '.[coco,notebook,onnx,upernet]'
	.venv-oldest/bin/uv pip install --quiet --python .venv-oldest --group dev
	.venv-oldest/bin/python -m pytest -n auto -o filterwarnings=default  # of old versions beside newer ones

fuzz: .venv/ready  ## read 2,000 changed inputs, under a minute (docs/robustness.md)
	$(BIN)/python tests/fuzz.py

lint: .venv/ready  ## ruff and codespell
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/codespell --toml pyproject.toml atmviz cli tests assets/photos assets/models/*.md docs *.md

types: .venv/ready  ## mypy
	$(BIN)/mypy

wheel: .venv/ready  ## build the source distribution, from it the wheel, and use that outside the repository
	rm -rf dist .venv-wheel
	$(BIN)/python -m build --outdir dist
	$(PYTHON) -m venv .venv-wheel
	.venv-wheel/bin/python -m pip install --quiet --upgrade pip
	.venv-wheel/bin/python -m pip install --quiet dist/*.whl
	folder=$$(mktemp -d) && wheel=$(CURDIR)/.venv-wheel/bin && cd $$folder && \
	  $$wheel/atmviz --version && $$wheel/atmviz overlay && ATMVIZ_CACHE=$$folder $$wheel/atmviz histogram && \
	  $$wheel/python -c "import atmviz; print(atmviz.load_model(device='cpu').origin.model)" && rm -r $$folder

bench: .venv/ready  ## the speeds of docs/results.md on a CPU, into OUT
	mkdir -p $(OUT)
	$(BIN)/atmviz benchmark op --device cpu --json > $(OUT)/op.json
	$(BIN)/atmviz benchmark model --device cpu --json > $(OUT)/model.json
	$(BIN)/atmviz benchmark record --device cpu -m atmnet_nano --rounds 7 --images 512 --json > $(OUT)/record.json

# On a GPU: the machine's own Python, no network. Each part takes less than eight minutes and prints rows as they are measured.
HERE = ATMVIZ_CACHE=$(abspath $(OUT))/cache $(PYTHON) -m
GPU = $(HERE) cli benchmark --device cuda --json
DTYPE ?= bfloat16
MODEL ?= atmnet_tiny

bench-gpu:  ## the speeds of docs/operator.md on a GPU, into OUT: all parts
	$(MAKE) bench-gpu-op DTYPE=bfloat16
	$(MAKE) bench-gpu-op DTYPE=float32
	$(MAKE) bench-gpu-model MODEL=atmnet_tiny
	$(MAKE) bench-gpu-model MODEL=atmnet_large
	$(MAKE) bench-gpu-record

test-gpu:  ## the tests that need a GPU; those of recordings need the package numcodecs
	mkdir -p $(OUT)
	$(HERE) pytest -m gpu -o filterwarnings=default -p no:cacheprovider tests/ops tests/training/test_resume.py tests/recording/test_precision.py

bench-gpu-op:  ## one branch in DTYPE, with narrow and wide offsets
	mkdir -p $(OUT)
	for spread in narrow wide; do \
	  $(GPU) op -m atmnet_tiny --size 512 -b 16 --dtype $(DTYPE) --spread $$spread --rounds 20 \
	    > $(OUT)/op-$(DTYPE)-$$spread.json || exit 1; done

bench-gpu-model:  ## the network MODEL, in float16 and bfloat16
	mkdir -p $(OUT)
	for dtype in float16 bfloat16; do \
	  $(GPU) model -m $(MODEL) -b 128 --dtype $$dtype > $(OUT)/$(MODEL)-$$dtype.json || exit 1; done

bench-gpu-record:  ## recording; needs the package numcodecs
	mkdir -p $(OUT)
	$(GPU) record -m atmnet_tiny -b 64 --images 4096 --rounds 7 > $(OUT)/record.json

clean:  ## remove environments and outputs
	rm -rf .venv .venv-wheel dist build demo docs/generated
