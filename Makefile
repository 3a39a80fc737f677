bin := .venv/bin
ready := .venv/.ready# written when the set-up has succeeded

.PHONY: setup demo test quick matrix lint types clean

setup: $(ready)

$(ready): pyproject.toml constraints-3.10.txt tools/setup
	tools/setup
	touch $@

demo: $(ready)
	$(bin)/spikeship demo --out runs/demo

lint: $(ready)
	$(bin)/ruff check
	$(bin)/ruff format --check

# Checked on the package as a stranger gets it: built, and installed away from its source. Only
# against the pinned versions: on newer Pythons the types of numpy and torch change with every release.
types: $(ready)
	@rm -rf build
	$(bin)/pip install --quiet --no-deps --no-build-isolation --target build/installed .
	@if $(bin)/python -c 'import sys; sys.exit(sys.version_info >= (3, 11))'; then set -x; \
	cd build/installed/spikeship && MYPYPATH=.. ../../../$(bin)/mypy --strict -p spikeship \
	    --config-file ../../../pyproject.toml --cache-dir ../../../.mypy_cache; \
	else echo "Types are checked on Python 3.10 only."; fi

test: lint types
	$(bin)/pytest -n auto

quick: $(ready)
	$(bin)/pytest -n auto -m 'not slow and not matrix'

matrix: $(ready)
	$(bin)/pytest -m matrix

clean:
	rm -rf build dist runs *.egg-info .mypy_cache .pytest_cache .ruff_cache .hypothesis
