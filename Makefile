# `make help` lists what there is. Variables:
#
#   ENGINE=rocksdb   RocksDB alone, without a commit log and memory tables of our own (lsm, the default)
#   ENGINE=memory    without RocksDB and so without C++; a node then keeps nothing when it stops
#   ARGS="…"         more arguments for `moim dev` and `make bench`
#   SIMULATION="…"   another command to run the simulator with

ENGINE ?= lsm
ARGS ?=
CARGO ?= cargo
BINARIES := $(or $(CARGO_TARGET_DIR),target)
# Bounded, so that every `make test` runs the same; `make sim` runs many more, and goes on where it was stopped.
SEEDS ?= 500
OPERATIONS ?= 2000
CASES ?= 20000
SIMULATION ?= $(CARGO) run --release --quiet -p moim-sim -- sweep --seeds $(SEEDS) --operations $(OPERATIONS)

ifneq ($(filter $(ENGINE),lsm rocksdb),)
FEATURES :=
else ifeq ($(ENGINE),memory)
FEATURES := --no-default-features
else
$(error ENGINE is lsm, rocksdb or memory, not $(ENGINE))
endif

export ENGINE

.PHONY: help dev test lint sim soak bench bootstrap rocksdb
.NOTPARALLEL:

help:
	@echo 'make dev     build Moim and start a cluster of three nodes on this machine'
	@echo 'make test    everything that has to pass: format, lints, docs, tests, simulation'
	@echo 'make lint    what needs tools of its own: licences, unused dependencies, spelling'
	@echo 'make sim     the simulator alone, for as long as it takes; SEEDS=20000 OPERATIONS=2000'
	@echo 'make soak    property tests with a fresh seed and many cases; CASES=20000'
	@echo 'make bench   CPU, latency, memory and disk beside Redis, Redis Cluster and etcd; ARGS="--full"'
	@echo
	@echo 'ENGINE=memory builds without RocksDB, keeping nothing on disk.'

dev: bootstrap rocksdb
	$(CARGO) build --release -p moim $(FEATURES)
	$(BINARIES)/release/moim dev $(ARGS)

test: bootstrap rocksdb
	$(CARGO) fmt --all --check
	$(CARGO) xtask tidy
	$(CARGO) clippy --workspace --all-targets $(FEATURES) -- -D warnings
# The crates that must build without C++, on their own: beside the others they would be given its features.
	$(CARGO) clippy -p moim-storage -p moim-node -p moim-sim --all-targets -- -D warnings
	RUSTDOCFLAGS='-D warnings' $(CARGO) doc --workspace --no-deps $(FEATURES)
	$(CARGO) test --workspace $(FEATURES)
	$(SIMULATION)

lint:
	@scripts/lint

sim: SEEDS = 20000
sim: SUMS = $(BINARIES)/simulation-$(shell git rev-parse --short HEAD)
sim:
	$(SIMULATION) --keep-going --resume $(SUMS)

# A fresh seed each time; a failure prints it, and the minimal case is kept in `proptest-regressions`.
soak:
	PROPTEST_RNG_SEED=$$(od -An -N7 -tu8 /dev/urandom | tr -d ' ') PROPTEST_CASES=$(CASES) $(CARGO) test -p moim-core -p moim-node

bench: bootstrap rocksdb
	$(CARGO) build --release -p moim $(FEATURES)
	@python3 -B bench --binary $(BINARIES)/release/moim --engine $(ENGINE) $(ARGS)

bootstrap:
	@scripts/bootstrap

# Once per machine; afterwards it only checks that the library is there and whole.
rocksdb: bootstrap
ifneq ($(ENGINE),memory)
	@$(CARGO) xtask rocksdb
endif
