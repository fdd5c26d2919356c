# Every target sets up what it needs in .venv.
PYTHON ?= python3
BIN := .venv/bin
OUT ?= demo

.PHONY: demo test lint types wheel bench clean

.venv/ready: pyproject.toml
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet --editable '.[coco,notebook,upernet]' --group dev
	touch $@

demo: .venv/ready  ## record and draw the README's figures into $(OUT)
	$(BIN)/atmviz overlay --layer 1_1,2_1,3_18,4_2 --out $(OUT)
	$(BIN)/atmviz histogram --layer 2_1,3_1,3_18 --out $(OUT)
	$(BIN)/atmviz histogram --layer 2_1,3_1,3_18 --tokens all --out $(OUT)

test: .venv/ready
	$(BIN)/python -m pytest -n auto

lint: .venv/ready
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/codespell --toml pyproject.toml atmviz cli tests assets/photos assets/models/*.md *.md

types: .venv/ready
	$(BIN)/mypy

wheel: .venv/ready  ## build the wheel, install it into a new environment, use it outside the repository
	rm -rf dist .venv-wheel
	$(BIN)/python -m build --wheel --outdir dist
	$(PYTHON) -m venv .venv-wheel
	.venv-wheel/bin/python -m pip install --quiet --upgrade pip
	.venv-wheel/bin/python -m pip install --quiet dist/*.whl
	folder=$$(mktemp -d) && wheel=$(CURDIR)/.venv-wheel/bin && cd $$folder && \
	  $$wheel/atmviz --version && $$wheel/atmviz overlay && ATMVIZ_CACHE=$$folder $$wheel/atmviz histogram && \
	  $$wheel/python -c "import atmviz; print(atmviz.load_model(device='cpu').origin.model)" && rm -r $$folder

bench: .venv/ready  ## recording against plain inference, and its memory
	$(BIN)/python tests/benchmarks/recording.py

clean:
	rm -rf .venv .venv-wheel dist build demo
