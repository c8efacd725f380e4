# make demo   see scheduled runs on the embedded stand-in model (ONCE=1: end after the first)
# make test   run the checks and all tests
# make run    start the server
# make config print the entry for Claude Desktop's configuration
# make bench  measure what the README promises
# make soak   keep five servers on one home under load for five minutes, their leaders killed
# make faults kill the server at fifty moments under load and look for anything missed, doubled or lost
# make bundle pack the bundle that Claude Desktop installs, into dist/
# make docs   write the generated parts of the README anew
# make screenshots take the README's pictures of the pages anew

PYTHON ?= python3
VENV := .venv
RUN := $(VENV)/bin/python
SHIPPED := $(wildcard fixed-servers/*/server.py) $(addprefix dynamic_servers/,$(addsuffix /server.py,cat-facts r2-images read-page))
export PIP_DISABLE_PIP_VERSION_CHECK := 1

# An environment whose Python has gone counts for nothing.
ifneq ($(shell $(RUN) -c 'print(1)' 2>/dev/null),1)
$(shell rm -f $(VENV)/*.ready)
endif

.PHONY: demo run config test check bench soak faults bundle docs screenshots constraints

demo: $(VENV)/run.ready
	@$(RUN) server.py --demo

run: $(VENV)/run.ready
	@exec $(RUN) server.py

config: $(VENV)/run.ready
	@$(RUN) server.py --client-config

test: $(VENV)/dev.ready
	@sh tests/system-packages.sh
	@sh tests/node-tools.sh
	@$(MAKE) --no-print-directory check
	@rm -f .coverage .coverage.*
	@$(RUN) -m coverage run -m pytest -n 3 --dist worksteal
	@$(RUN) -m coverage combine -q && $(RUN) -m coverage report

check: $(VENV)/dev.ready
	@$(RUN) -m ruff format --check -q . && $(RUN) -m ruff check -q .
	@$(RUN) -m mypy
	@for server in $(SHIPPED); do $(RUN) -m mypy $$server >.mypy.out || { cat .mypy.out; rm .mypy.out; exit 1; }; rm .mypy.out; done
	@$(VENV)/bin/lint-imports --no-logo >/dev/null || $(VENV)/bin/lint-imports --no-logo

soak: $(VENV)/dev.ready
	@$(RUN) -m tests.soak

# FAULTS_SEED says which storm, FAULTS_KILLS how long it is.
faults: $(VENV)/dev.ready
	@FAULTS_KILLS=$${FAULTS_KILLS:-50} $(RUN) -m pytest -q -s tests/faults

bench: $(VENV)/dev.ready
	@$(RUN) -m bench

bundle: $(VENV)/run.ready
	@$(RUN) -m bundle

docs: $(VENV)/dev.ready
	@$(RUN) -m docs.generate

screenshots: $(VENV)/dev.ready
	@sh tests/system-packages.sh
	@SCREENSHOTS=1 $(RUN) -m pytest -q -n 2 tests/test_browser_pages.py -k "flaw"

constraints: $(VENV)/dev.ready
	@( echo '# What the requirements bring in turn, pinned. Made by: make constraints'; $(RUN) -m pip freeze ) >constraints.new
	@mv constraints.new constraints.txt

# An environment counts once the file that says it is whole is there.
$(VENV)/run.ready: requirements.txt constraints.txt
	@sh setup.sh "$(PYTHON)" "$(VENV)" requirements.txt && touch $@

$(VENV)/dev.ready: requirements.txt requirements-dev.txt constraints.txt
	@sh setup.sh "$(PYTHON)" "$(VENV)" requirements-dev.txt && touch $(VENV)/run.ready $@
