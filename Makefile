# Each target is one line that also works when it is typed without make.

STATICCHECK = honnef.co/go/tools/cmd/staticcheck@v0.8.2

.PHONY: build build-faults test test-faults race lint fuzz bench compare transitions demo soak soak-commands soak-programs packages repo test-packages test-install clean help

build: ## binaries into bin/
	go build -o bin/ ./cmd/... && for tool in chmpxconftest chmpxlinetool chmpxstatus; do ln -sf chmpxctl bin/$$tool; done

build-faults: ## binaries with faults for tests into bin/faults/; see CONTRIBUTING.md
	go build -tags faults -o bin/faults/ ./cmd/...

test: ## every test; those with real processes last and alone, since they take the whole machine
	go test -timeout 30m -count=1 $$(go list ./... | grep -v '/testcluster\(/run\)*$$') && go test -timeout 30m -count=1 -p 1 ./testcluster ./testcluster/run && go test -timeout 30m -tags faults -count=1 ./internal/fault

test-faults: ## the tests of what the tag faults adds: hooks, crash points, deliberate bugs
	go test -tags faults -count=1 ./internal/fault && go test -tags faults -run='^TestFault' -count=1 ./...

race: ## tests under the race detector; -short leaves out those with real processes
	go test -timeout 30m -race -short -count=1 ./...

lint: ## gofmt, go vet, staticcheck, the latter two also with the tag faults
	test -z "$$(gofmt -l . | tee -a /dev/stderr)" && go vet ./... && go vet -tags faults ./... && go vet -tags packages,install ./ops/packaging && go run $(STATICCHECK) ./... && go run $(STATICCHECK) -tags faults ./...

fuzz: ## each fuzz target for FUZZTIME (10s)
	bash scripts/fuzz.sh $${FUZZTIME:-10s}

bench: ## Go benchmarks with allocations
	go test -run='^$$' -bench=. -benchmem ./...

compare: build ## figures of one client, slave, server and program, as JSON lines
	bash bench/compare.sh

transitions: build ## how long changes of the ring take: commits, and ends of servers until DOWN; about 2 minutes
	bin/chmpx-testcluster transitions

demo: build ## a ring that delivers, loses a server and goes on delivering; under 60 s
	bin/chmpx-testcluster demo

soak: build-faults ## real processes under all faults, judged; DURATION=10m SEED=1 SOAK='--stand-in-after 1s'
	bin/faults/chmpx-testcluster run --duration $${DURATION:-10m} --seed $${SEED:-0} --report bin/report $(SOAK)

soak-commands: build-faults ## 4 operators in a hurry at 3 servers and 2 slaves, whose leader is killed every 10 s; SEED=1 ROUNDS=6
	bin/faults/chmpx-testcluster run --servers 3 --slaves 2 --faults kill-leader --gap 10s --round 40s --operators 4 --rest 5ms --rate 100 --rounds $${ROUNDS:-6} --seed $${SEED:-1} --report bin/report

soak-programs: build ## 1,000 rounds of dying programs and garbage, 100 kills of nodes, judged; about 5 minutes
	bin/chmpx-testcluster soak $(SOAK)

packages: ## deb, rpm, apk, tarball, OCI layout, SBOM and checksums into dist/; ARCHS="amd64 arm64"
	bash ops/packaging/build.sh

repo: packages ## a local apt and a local dnf repository of them in dist/repo/
	bash ops/packaging/repo.sh

test-packages: packages ## what is in the packages; needs rpm
	go test -timeout 30m -tags packages -count=1 ./ops/packaging

test-install: repo ## installations in a Debian root, as docs say; as root, needs debootstrap and what repo.sh needs
	go test -tags install -count=1 -timeout 30m ./ops/packaging

clean: ## remove what build made
	rm -rf bin dist

help: ## this list
	@grep -E '^[a-z-]+:.*##' Makefile | sed -E 's/:[^#]*## /\t/' | expand -t 14
