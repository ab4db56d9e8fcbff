# make demo   install what the main job needs and anonymize sample portraits
# make test   every check: lint, types, floors, tests (what CI runs)
# make lint   ruff, mypy, import-linter        make bench   figures of benchmarks/
# make fuzz   malformed files for every loader, FUZZ_SECONDS each (fuzz/README.md)

PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
INSTALL := $(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt

.PHONY: demo test test-quick test-face-alignment lint bench torture fuzz clean

$(VENV)/.core: setup.cfg pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(INSTALL) -e .
	touch $@

$(VENV)/.demo: $(VENV)/.core
	$(INSTALL) -e '.[demo,review]'
	touch $@

$(VENV)/.test: $(VENV)/.core
	$(INSTALL) -e '.[test,demo,review,audit]'
	touch $@

demo: $(VENV)/.demo
	rm -rf demo && mkdir demo
	$(BIN)/python -m p3m_data.cli.demo demo/photos
	$(BIN)/p3mdata anonymize demo/photos -o demo/dataset || test $$? -eq 1
	@echo
	@echo "Open demo/dataset.private/report.html in a browser: for every photo what was found and what was done."
	@echo "demo/dataset is what may be published; the photos that wait are not in it."
	@echo "Decide about them in the browser: $(BIN)/p3mdata review demo/dataset"

lint: $(VENV)/.test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

test: lint
	$(BIN)/python -m pytest

test-quick: $(VENV)/.test
	$(BIN)/python -m pytest -m 'not slow'

# the second landmarker needs torch, which has no place in the core environment
$(VENV)-torch/.done: setup.cfg constraints.txt
	$(PYTHON) -m venv $(VENV)-torch
	$(VENV)-torch/bin/python -m pip install --quiet --disable-pip-version-check torch==2.13.0
	$(VENV)-torch/bin/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[face-alignment,test,demo]'
	touch $@

test-face-alignment: $(VENV)-torch/.done
	$(VENV)-torch/bin/python -m pytest tests/faces/landmarkers/test_face_alignment.py

# the fuzzer instruments what it imports, which the test environment must not depend on
$(VENV)-fuzz/.done: setup.cfg constraints.txt
	$(PYTHON) -m venv $(VENV)-fuzz
	$(VENV)-fuzz/bin/python -m pip install --quiet --disable-pip-version-check atheris==3.0.0
	$(VENV)-fuzz/bin/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[review]'
	echo '*' > $(VENV)-fuzz/.gitignore
	touch $@

FUZZ_SECONDS ?= 60
fuzz: $(VENV)-fuzz/.done
	$(VENV)-fuzz/bin/python -m fuzz all $(FUZZ_SECONDS)

bench: $(VENV)/.test
	$(BIN)/python benchmarks/anonymize.py

# a quarter of an hour: 200 runs are killed at random moments
torture: $(VENV)/.test
	$(BIN)/python benchmarks/torture.py --kills 200 --seed 1

clean:
	rm -rf $(VENV) $(VENV)-torch $(VENV)-fuzz fuzz/findings demo build dist *.egg-info
