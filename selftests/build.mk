# SPDX-License-Identifier: GPL-2.0
# Builds the test programs into $(B)/selftests/. Included by the top-level Makefile.

# One program per name, with the harness's main(); helpers have their own.
TESTS := forward borrow cancel exclusive splice oneway keep limits prefix delim framer framers framer_behind \
	 send drain connecting adopt churn nl_inserts lazy trace shared auto pipes own_loop fair kinds owner \
	 immediate bounded refuse options rights events netlink_fuzz stress sosplice ring lib_args ktls \
	 ktls_record unix_ends late_shutdown \
	 sockmap sockmap_stalled sockmap_fork sockmap_peers sockmap_failed sockmap_bypass sockmap_bypass_end sockmap_bypass_order \
	 sockmap_exit sockmap_others sockmap_skb sockmap_skb_end sockmap_skb_locked sockmap_skb_tun sockmap_mover sockmap_list \
	 sockmap_list_other
TEST_HELPERS := hold peer soak
TEST_COMMON := util cgroup ends stream tls nl drive driven

TEST_OBJ := $(B)/obj/selftests
TEST_CFLAGS = $(CFLAGS) $(WARN) -Wno-sign-compare -Wno-unused-parameter -std=gnu11 -pthread \
	-isystem build/include/kselftest -Ilibsplice -Ikmod/uapi
TEST_PROGRAMS := $(TESTS:%=$(B)/selftests/%) $(TEST_HELPERS:%=$(B)/selftests/%)

TEST_TARGETS += $(TEST_PROGRAMS) $(TEST_OBJ)/header_cc.o

$(TEST_OBJ)/%.o: selftests/%.c
	@mkdir -p $(@D)
	$(CC) $(TEST_CFLAGS) -MMD -MP -c -o $@ $<

# The tests take their verdicts from the harness, which comes at set-up.
$(TESTS:%=$(TEST_OBJ)/%.o): build/include/kselftest/kselftest_harness.h

# The header must be one for C++ as well.
CXX ?= g++
$(TEST_OBJ)/header_cc.o: selftests/header.cc libsplice/libsplice.h
	@mkdir -p $(@D)
	$(CXX) -std=c++11 $(WARN) -Ilibsplice -c -o $@ $<

FRAMER_TESTS := $(addprefix $(B)/selftests/,framer framers framer_behind)
# Framers are part of the programs that test them: a guest needs no file more.
$(TEST_OBJ)/framer_progs.bpf.o: selftests/framer_progs.bpf.c
	@mkdir -p $(@D)
	$(BPF_CLANG) $(BPF_CFLAGS) -c -o $@ $<
$(TEST_OBJ)/framed.o: $(TEST_OBJ)/framer_progs.bpf.o $(BPF_OBJECTS)
$(TEST_OBJ)/framed.o: TEST_CFLAGS += -DBPF_DIR='"$(B)/bpf/"' -DPROGS_DIR='"$(TEST_OBJ)/"'
$(FRAMER_TESTS): $(TEST_OBJ)/framed.o
$(FRAMER_TESTS): LDLIBS = -lbpf

# The mode on its own, below any engine.
SOCKMAP_TESTS := $(addprefix $(B)/selftests/,sockmap_skb sockmap_skb_end sockmap_skb_locked sockmap_skb_tun)
SOCKMAP_PARTS := $(addprefix $(LIB_OBJ_DIR)/,sockmap_skb.o sockmap_flow.o sockmap_maps.o sockmap_tcp.o sockmap_object.o)
$(SOCKMAP_TESTS): $(SOCKMAP_PARTS) $(TEST_OBJ)/sockmap_way.o
$(B)/selftests/sockmap_skb_tun: $(TEST_OBJ)/tunpeer.o
$(SOCKMAP_TESTS): LDLIBS = -lbpf

$(B)/selftests/sockmap_bypass_order: LDLIBS = -Wl,--wrap=bpf_prog_test_run_opts -Wl,--wrap=splice

$(TEST_PROGRAMS): $(B)/selftests/%: $(TEST_OBJ)/%.o $(TEST_COMMON:%=$(TEST_OBJ)/%.o) $(B)/libsplice.a
	@mkdir -p $(@D)
	$(CC) $(CFLAGS) -pthread -o $@ $^ $(LDFLAGS) $(LIB_LIBS) $(LDLIBS)

-include $(wildcard $(TEST_OBJ)/*.d)
