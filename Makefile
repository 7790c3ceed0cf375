# The commands that a person types. Everything else is in tools/ and tox.ini.

python := .venv/bin/python
tox := .venv/bin/tox
# Where suites of the tests that run beside others have their labs.
aside := $(or $(NOVA_SNAPSHOT_LAB),$(CURDIR)/.lab)/aside

# make cloud DRIVER=libvirt.LibvirtDriver CONCURRENCY=eventlet NOVA=33.0.0
# make cloud STORAGE=ceph
# make cloud STORAGE=ceph API=stock
cloud_options := $(if $(DRIVER),--driver $(DRIVER)) \
	$(if $(CONCURRENCY),--concurrency $(CONCURRENCY)) \
	$(if $(NOVA),--nova $(NOVA)) \
	$(if $(STORAGE),--storage $(STORAGE)) \
	$(if $(filter stock,$(API)),--stock-api)
# The packages that a cloud needs: those of Ceph only where it is asked for.
cloud_profiles := cloud $(filter ceph,$(STORAGE))

# make bench BENCH='--rounds 1 --sizes 1 --quick'
# make bench-volumes BENCH='--rounds 1'
# make bench-increments BENCH='--rounds 1'

.DEFAULT_GOAL := help
# The parts share one lab and one log.
.NOTPARALLEL:
.PHONY: help demo cloud cloud-down bench bench-volumes bench-increments test
.PHONY: quick unit
.PHONY: functional nova openstack lint format docs lab-down clean venv packages
.PHONY: lab docs-packages cloud-packages cloud-lab ceph ceph-lab survive
.PHONY: exhaustive deployment

help: ## List the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-16s %s\n", $$1, $$2 }' Makefile

demo: packages ## Snapshot a running guest, and see the proof
	@$(python) -m lab.demo

cloud: ## Start an OpenStack around the driver, and leave it running
	@tools/setup.sh lab $(cloud_profiles)
	@$(python) -m lab cloud up $(cloud_options)

cloud-down: ## Stop the OpenStack; what is stored in it stays
	@[ ! -x $(python) ] || $(python) -m lab cloud down

bench: cloud-lab ## Compare the ways to take a snapshot, for the documentation
	@tools/setup.sh lab cloud bench
	@$(python) -m bench $(BENCH)

bench-volumes: ceph-lab ## Compare those of servers that boot from volumes
	@$(python) -m bench.volumes $(BENCH)

bench-increments: ceph-lab ## Compare increments into Cinder with full snapshots
	@tools/setup.sh lab cloud bench
	@$(python) -m bench.increments $(BENCH)

test: lab ceph-lab ## Run all tests; as root, for a cloud
	@tools/run-tests.sh unit \
		functional,nova+openstack-ceph+openstack-threading,eventlet,deployment

quick: venv ## Lint the change; unit tests but faults, fuzzing, processes
	@tools/lint-change.sh
	@tools/run-tests.sh quick

unit: venv ## Run the unit tests
	@tools/run-tests.sh unit

functional: lab ## Run the functional tests: real guests, a real Glance
	@tools/run-tests.sh functional

nova: cloud-lab ## Run the tests that need Nova, and Nova's own of snapshots
	@tools/run-tests.sh nova

openstack: cloud-lab ## Run the tests in a cloud, on native threads
	@tools/run-tests.sh openstack-$(or $(CONCURRENCY),threading)

ceph: ceph-lab ## Run the tests in a cloud with Ceph and Cinder
	@tools/run-tests.sh openstack-ceph

deployment: cloud-lab ## Deploy the driver into a stock Nova, and take it out
	@tools/run-tests.sh deployment

survive: ceph-lab ## Kill everybody at every step of every path, and soak
	@tools/run-tests.sh survive

exhaustive: venv ## Run the unit tests that fuzz, or draw rows, to the full
	@tools/run-tests.sh exhaustive

lint: venv ## Check style, types, generated files and the package
	@$(tox) -q run -e pep8,mypy,genconfig,package

format: venv ## Mend the style, where that needs no thought
	@$(tox) -q run -e format

docs: docs-packages ## Build the documentation, and look at it in a browser
	@$(tox) -q run -e docs

lab-down: ## Stop all that was started by any of the above
	@[ ! -x $(python) ] || $(python) -m lab down
	@for lab in $(wildcard $(aside)/*); do \
		NOVA_SNAPSHOT_LAB=$$lab $(python) -m lab down || exit; \
	done

clean: lab-down ## Remove all that was built and installed in this directory
	rm -rf .coverage* .eggs .lab .mypy_cache .ruff_cache .stestr .tox .venv
	rm -rf *.egg-info AUTHORS ChangeLog build cover dist doc/build
	find . -name __pycache__ -prune -exec rm -rf {} +

venv:
	@tools/setup.sh

packages:
	@tools/setup.sh lab

docs-packages:
	@tools/setup.sh docs

cloud-packages:
	@tools/setup.sh lab cloud

cloud-lab: cloud-packages
	@$(python) -m lab guest build
	@$(python) -m lab cloud install

ceph-lab: cloud-lab
	@tools/setup.sh lab cloud ceph
	@$(python) -m lab cloud install --storage ceph

lab: packages
	@$(python) -m lab glance install
	@$(python) -m lab guest build
