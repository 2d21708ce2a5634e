# SPDX-License-Identifier: GPL-2.0
# The benchmark's own programs, into $(B)/bench/: the load generator, which selftests/idle.sh uses too, and the
# hand-written relays. Included by the top-level Makefile.

BENCH_OBJ := $(B)/obj/bench
BENCH_LOAD := load net measure proc bulk echo rr conn pairs verify hold diag
BENCH_SCALE := scale scale_kernel scale_path scale_memory scale_end scale_latency scale_loop scale_duplex scale_churn
BENCH_RELAY := relay relay_conn relay_splice relay_copy relay_uring relay_sockmap
BENCH_CFLAGS = $(CFLAGS) $(WARN) -std=gnu11 -D_GNU_SOURCE
BENCH_TARGETS := $(B)/bench/load $(B)/bench/relay $(B)/bench/scale
TEST_TARGETS += $(B)/bench/load

$(BENCH_OBJ)/%.o: selftests/bench/%.c selftests/bench/build.mk
	@mkdir -p $(@D)
	$(CC) $(BENCH_CFLAGS) -MMD -MP -c -o $@ $<

$(B)/bench/load: $(BENCH_LOAD:%=$(BENCH_OBJ)/%.o)
$(B)/bench/scale: $(BENCH_SCALE:%=$(BENCH_OBJ)/%.o) $(B)/libsplice.a
$(B)/bench/scale: BENCH_LIBS = $(LIB_LIBS)
$(BENCH_SCALE:%=$(BENCH_OBJ)/%.o): BENCH_CFLAGS += -Ilibsplice -pthread
$(B)/bench/relay: $(BENCH_RELAY:%=$(BENCH_OBJ)/%.o)
$(B)/bench/relay: BENCH_LIBS = -luring -lbpf
$(BENCH_OBJ)/sockmap.bpf.o: selftests/bench/sockmap.bpf.c selftests/bench/relay_sockmap.h
	@mkdir -p $(@D)
	$(BPF_CLANG) $(BPF_CFLAGS) -c -o $@ $<
$(BENCH_OBJ)/relay_sockmap.o: $(BENCH_OBJ)/sockmap.bpf.o
$(BENCH_OBJ)/relay_sockmap.o: BENCH_CFLAGS += -DSOCKMAP_OBJECT='"$(BENCH_OBJ)/sockmap.bpf.o"'
$(BENCH_TARGETS):
	@mkdir -p $(@D)
	$(CC) $(CFLAGS) -o $@ $^ $(LDFLAGS) $(BENCH_LIBS)

-include $(wildcard $(BENCH_OBJ)/*.d)
