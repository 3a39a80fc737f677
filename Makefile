bin := .venv/bin
ready := .venv/.ready# written when the set-up has succeeded

.PHONY: setup demo test lint clean

setup: $(ready)

$(ready): pyproject.toml constraints-3.10.txt tools/setup
	tools/setup
	touch $@

demo: $(ready)
	$(bin)/spikeship demo --out runs/demo

# Types are checked on the package as a stranger gets it: built, then installed away from its source.
lint: $(ready)
	$(bin)/ruff check
	$(bin)/ruff format --check
	rm -rf build
	$(bin)/pip install --quiet --no-deps --no-build-isolation --target build/installed .
	cd build/installed/spikeship && MYPYPATH=.. ../../../$(bin)/mypy \
	    --config-file ../../../pyproject.toml --cache-dir ../../../.mypy_cache --strict -p spikeship

test: lint
	$(bin)/pytest

clean:
	rm -rf build dist runs *.egg-info .mypy_cache .pytest_cache .ruff_cache .hypothesis
