# SPDX-License-Identifier: GPL-2.0
# What a user installs goes to build/. "make help" lists the targets.

B	:= build
CC	?= gcc
CFLAGS	?= -O2 -g
WARN	:= -Wall -Wextra -Werror
# The kernel to build the module for: a release, or 6.1, 6.12, 7.2, debug. Default: the running
# one, if its headers are installed, else the newest there is.
KVER	?= default

LIB_TARGETS	:=
TOOL_TARGETS	:=
TEST_TARGETS	:=

all: lib tools bpf-if-clang module

include libsplice/build.mk
include tools/build.mk
include bpf/build.mk
include selftests/build.mk
include selftests/bench/build.mk
include examples/build.mk
include Documentation/build.mk

lib: $(LIB_TARGETS)
tools: $(TOOL_TARGETS)
bpf: $(BPF_OBJECTS)
# Who has no clang may well have no use for framers either.
bpf-if-clang: $(if $(shell command -v $(BPF_CLANG)),bpf)
examples: $(EXAMPLE_PROGRAMS)
tests: setup
	+@$(MAKE) -s --no-print-directory $(JOBS) lib tools bpf $(TEST_TARGETS)

# These run make themselves, for the same files as other goals: not at the same time. What they run has its processors.
ifneq ($(filter tests tests-asan check check-debug check-matrix test soak demo demo-kmod bench,$(MAKECMDGOALS)),)
.NOTPARALLEL:
endif

# All processors, unless "make -j" has said otherwise.
JOBS	= $(if $(filter -j% --jobserver%,$(MAKEFLAGS)),,-j$(shell nproc))

# Quick when there is nothing to do. As root on Debian 12 it installs what is missing.
setup:
	@scripts/setup

# They come out of the kernel's source: see scripts/setup.
build/include/kselftest/kselftest_harness.h:
	@scripts/setup headers

module:
	@scripts/build-module $(KVER)
	@cp $(B)/kmod-$$(scripts/kernel release $(KVER))/sksplice.ko $(B)/sksplice.ko

# Every kernel that is supported, and the one with the checkers; a warning is an error.
modules-all: setup
	@scripts/setup trixie
	@scripts/setup debug-kernel
	@for k in 6.1 6.12 7.2 debug; do scripts/build-module $$k && echo "module for $$k: ok" || exit 1; done

# The conformance suite once more, with the compiler's checks.
tests-asan: tests
	+@$(MAKE) -s --no-print-directory $(JOBS) B=$(B)/asan LIB_LDFLAGS= \
		CFLAGS="-O1 -g -fsanitize=address,undefined -fno-sanitize-recover=undefined -fno-omit-frame-pointer" tests-only

tests-only: lib $(TEST_TARGETS)

check: tests-asan
	@selftests/check

# All that belongs into guests, on every supported kernel.
check-matrix: tests
	@selftests/check matrix

check-debug: tests
	@selftests/check debug

# One test, in the guest if it is one of the guest's: make test T=forward [K=debug]
K	?= 6.1
test: $(if $(filter asan,$(K)),tests-asan,tests)
	@test -n "$(T)" || { echo "which test? make test T=NAME; selftests/vm/tests.list has the names"; exit 2; }
	@selftests/check --test "$(T)" $(K)

# Streams through a relay over a link that loses, doubles and reorders packets. MINUTES= CONNECTIONS= ENGINE= MOST= SEED=,
# ENGINE=sockmap, local, bypass: the modes of the engine sockmap. K= the guest's kernel; K=host: on this machine, whose kernel then must have sch_netem (or NETEM= for none of that).
SOAK_SETTINGS = $(foreach v,MINUTES CONNECTIONS ENGINE MOST SEED,$(if $($(v)),$(v)=$($(v))))
soak: tests
ifeq ($(K),host)
	@selftests/soak.sh $(SOAK_SETTINGS)
else
	@selftests/vm/run --kernel $(K) --limit $$(awk 'BEGIN { print int($(or $(MINUTES),1) * 60 + 420) }') "soak.sh $(SOAK_SETTINGS)"
endif

demo:
	@scripts/setup demo
	+@$(MAKE) -s --no-print-directory $(JOBS) lib tools > /dev/null
	@selftests/demo

demo-kmod: setup
	+@$(MAKE) -s --no-print-directory tests > /dev/null
	@selftests/demo kmod

# ROUNDS= ROWS= RELAYS= SECONDS= PAIRS=: selftests/bench/bench tells.
bench:
	@scripts/setup bench
	+@$(MAKE) -s --no-print-directory $(JOBS) lib tools $(BENCH_TARGETS)
	@B=$(B) selftests/bench/bench

# KERNELS= ROWS= RELAYS= and more: selftests/bench/bench-kmod tells. FORM=--markdown or --json.
bench-kmod: setup
	@scripts/setup bench
	@case "$(or $(KERNELS),7.2)" in *6.12* | *7.2*) scripts/setup trixie ;; esac
	+@$(MAKE) -s --no-print-directory $(JOBS) lib tools $(BENCH_TARGETS)
	@selftests/bench/bench-kmod $(FORM)

# PARTS= KERNEL= ROUNDS=: selftests/bench/bench-kmod-scale tells.
bench-kmod-scale: setup
	@scripts/setup bench
	+@$(MAKE) -s --no-print-directory $(JOBS) lib tools $(BENCH_TARGETS)
	@selftests/bench/bench-kmod-scale

# The module over a direct connection, natively timed in a kernel for user mode. PERF=1: where the time goes.
bench-uml: setup
	@scripts/setup uml
	+@$(MAKE) -s --no-print-directory $(JOBS) lib tools
	@B=$(B) selftests/bench/uml $(if $(PERF),--perf)

SBINDIR	?= $(PREFIX)/sbin
UNITDIR	?= $(PREFIX)/lib/systemd/system
COMPLETIONDIR ?= $(PREFIX)/share/bash-completion/completions
install: lib tools bpf-if-clang
	install -d $(DESTDIR)$(LIBDIR)/pkgconfig $(DESTDIR)$(INCLUDEDIR) $(DESTDIR)$(SBINDIR) $(DESTDIR)$(UNITDIR)
	install -m 644 $(B)/libsplice.a $(DESTDIR)$(LIBDIR)/
	install -m 755 $(B)/$(LIB_SONAME) $(DESTDIR)$(LIBDIR)/libsplice.so.$(LIB_VERSION)
	ln -sf libsplice.so.$(LIB_VERSION) $(DESTDIR)$(LIBDIR)/$(LIB_SONAME)
	ln -sf $(LIB_SONAME) $(DESTDIR)$(LIBDIR)/libsplice.so
	install -m 644 $(B)/libsplice.pc $(DESTDIR)$(LIBDIR)/pkgconfig/
	install -m 644 libsplice/libsplice.h $(DESTDIR)$(INCLUDEDIR)/
	install -m 755 $(B)/splicectl $(DESTDIR)$(SBINDIR)/
	sed 's|@SBINDIR@|$(SBINDIR)|' tools/splicectl-relay@.service.in > $(DESTDIR)$(UNITDIR)/splicectl-relay@.service
	chmod 644 $(DESTDIR)$(UNITDIR)/splicectl-relay@.service
	install -D -m 644 tools/splicectl.bash $(DESTDIR)$(COMPLETIONDIR)/splicectl
	for f in $(BPF_OBJECTS); do [ ! -f $$f ] || install -D -m 644 -t $(DESTDIR)$(LIBDIR)/libsplice $$f || exit 1; done

# KVER must be a release of this machine's own.
install-module: module
	r=$$(scripts/kernel release $(KVER)) && \
	install -D -m 644 $(B)/sksplice.ko $(DESTDIR)/lib/modules/$$r/extra/sksplice.ko && depmod -b "$(DESTDIR)/" $$r

clean:
	rm -rf $(B)

help:
	@echo "make                 build/libsplice.so .a .pc, build/splicectl, build/sksplice.ko"
	@echo "make bpf             build/bpf/length32.bpf.o, websocket.bpf.o: framers"
	@echo "make module KVER=V   the module for kernel V"
	@echo "make examples        build/examples/sni_proxy, http_body and tls_relay: small proxies to read and to copy"
	@echo "make modules-all     the module for every supported kernel"
	@echo "make demo            a real download through the best engine of this machine"
	@echo "make demo-kmod       a real download through the module, in a guest"
	@echo "make check           all tests: on this machine, in a 6.1 guest, in a guest with KASAN and lockdep"
	@echo "make check-debug     the last of these alone"
	@echo "make test T=NAME     one test, in its guest (K=debug: in the one with the checkers; K=user, sockmap, sk_skb, asan, valgrind: here)"
	@echo "make soak            200 connections for MINUTES=1 over a bad link, in a guest (K= ENGINE= CONNECTIONS=)"
	@echo "make bench           our relay side by side with others, six minutes (ROUNDS= ROWS= RELAYS=)"
	@echo "make bench-kmod      the module beside other relays, instructions counted in guests (KERNELS= ROWS= RELAYS=)"
	@echo "make bench-kmod-scale   how the module scales: memory, latency, fairness, loops, two processors (PARTS=)"
	@echo "make bench-uml       the module over a direct connection, natively timed in User-Mode Linux (ROUNDS= ROWS= PERF=1)"
	@echo "make install         PREFIX=/usr/local DESTDIR="
	@echo "make install-module  the module, to /lib/modules/V/extra"

.PHONY: all lib tools bpf bpf-if-clang examples tests tests-asan tests-only setup module modules-all check check-debug check-matrix test soak demo demo-kmod bench bench-kmod bench-kmod-scale bench-uml install install-module clean help FORCE
