# SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause
# Builds the framers, and the engine sockmap's part, into $(B)/bpf/. Included by the top-level Makefile.

BPF_CLANG	?= clang
# Parts of the library or of a program, and no files of their own for whoever installs.
BPF_INSIDE	:= local sockmap
LOCAL_OBJECT	:= $(B)/bpf/local.bpf.o
BPF_OBJECTS	:= $(patsubst bpf/%.c,$(B)/bpf/%.o,$(filter-out $(BPF_INSIDE:%=bpf/%.bpf.c),$(wildcard bpf/*.bpf.c)))
# The headers of the machine, as no target bpf has its own.
BPF_CFLAGS	:= -target bpf -O2 -g $(WARN) -idirafter /usr/include/$(shell uname -m)-linux-gnu

$(B)/bpf/%.bpf.o: bpf/%.bpf.c bpf/framer.h
	@mkdir -p $(@D)
	$(BPF_CLANG) $(BPF_CFLAGS) -c -o $@ $<
$(B)/bpf/sockmap.bpf.o: bpf/sockmap.h
$(LOCAL_OBJECT): bpf/local.h bpf/local_kernel.h bpf/sleeper.bpf.h bpf/bypass.h bpf/bypass.bpf.h
