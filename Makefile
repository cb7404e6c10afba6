# The commands of README.md and CONTRIBUTING.md under short names. Nothing is built by make itself.

.PHONY: help demo up check long watch image compose manifests

help: ## this list
	@grep -E '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

demo: ## a whole deployment with real data, gone when it ends
	cargo run --release -p trough -- demo

up: ## a whole deployment in one process
	cargo run --release -p trough -- up

check: ## everything that must pass before a change is taken
	./check.sh

long: ## the whole-system tests with ten times the kills and faults, and the policies of the manifests
	./check.sh long

watch: ## compile and run the unit tests again after every change
	./watch.sh

image: ## the container image
	docker build --tag trough:0.1.0 .

compose: ## the cluster shape on this machine
	deploy/compose/prepare.sh
	docker compose up --build --wait

manifests: ## what deploy/ renders to, checked against the schemas
	tests/install-servers.sh
	$(or $(CARGO_TARGET_DIR),target)/test-servers/bin/python tests/manifests.py check deploy/overlays/* deploy/preview deploy/preview/slots/*/ deploy/secrets.example.yaml
