# SPDX-License-Identifier: LGPL-2.1-only OR BSD-2-Clause
# The library: shared, static, and its pkg-config file.

LIB_VERSION	:= $(shell cat VERSION)
LIB_SONAME	:= libsplice.so.1
LIB_OBJ_DIR	:= $(B)/obj/libsplice

LIB_NAMES	:= args engine_kmod engine_kmod_msg engine_user error genl libsplice open probe queue \
		   user_busy user_delim user_flow user_io user_leave user_op user_option user_phase user_pipe \
		   user_rights user_sock user_stall user_timer user_tls user_unix wait
LIB_LIBS	:= -lmnl

LIB_NAMES	+= engine_sockmap
# Where there is no clang, the engine says so when it is asked for.
SOCKMAP_OBJS	:= $(addprefix $(LIB_OBJ_DIR)/,engine_sockmap.o sockmap_load.o)
ifneq ($(shell command -v $(or $(BPF_CLANG),clang)),)
LIB_NAMES	+= sockmap_bypass sockmap_flow sockmap_hop sockmap_list sockmap_listed sockmap_load sockmap_maps sockmap_mover sockmap_object sockmap_ports sockmap_skb sockmap_skb_test sockmap_tcp \
		   sockmap_test sockmap_wait
LIB_LIBS	+= -lbpf
$(SOCKMAP_OBJS): $(B)/bpf/local.bpf.o
$(SOCKMAP_OBJS): LIB_CFLAGS += -DSPL_SOCKMAP='"$(B)/bpf/local.bpf.o"'
$(LIB_OBJ_DIR)/sockmap_maps.o: $(B)/bpf/sockmap.bpf.o
$(LIB_OBJ_DIR)/sockmap_maps.o: LIB_CFLAGS += -DSOCKMAP_OBJECT='"$(B)/bpf/sockmap.bpf.o"'
endif
LIB_OBJS	:= $(LIB_NAMES:%=$(LIB_OBJ_DIR)/%.o)

LIB_CFLAGS	:= -std=gnu11 $(WARN) -fPIC -fvisibility=hidden
# clang does not link its sanitizers' runtime into shared objects: empty this for such a build.
LIB_LDFLAGS	?= -Wl,--no-undefined

PREFIX		?= /usr/local
LIBDIR		?= $(PREFIX)/lib
INCLUDEDIR	?= $(PREFIX)/include

LIB_TARGETS	+= $(B)/$(LIB_SONAME) $(B)/libsplice.so $(B)/libsplice.a $(B)/libsplice.pc

$(LIB_OBJ_DIR)/%.o: libsplice/%.c
	@mkdir -p $(@D)
	$(CC) $(CPPFLAGS) $(CFLAGS) $(LIB_CFLAGS) -MMD -MP -c -o $@ $<

$(B)/$(LIB_SONAME): $(LIB_OBJS) libsplice/libsplice.map
	$(CC) $(CFLAGS) $(LDFLAGS) $(LIB_LDFLAGS) -shared -Wl,-soname,$(LIB_SONAME) \
		-Wl,--version-script=libsplice/libsplice.map -o $@ $(LIB_OBJS) $(LIB_LIBS)

$(B)/libsplice.so: $(B)/$(LIB_SONAME)
	ln -sf $(LIB_SONAME) $@

# In one object, so that what one file gives to another only can stay unseen by programs.
OBJCOPY		?= objcopy
$(B)/libsplice.a: $(LIB_OBJS) libsplice/build.mk
	rm -f $@
	$(LD) -r -o $(LIB_OBJ_DIR)/all.o $(LIB_OBJS)
	$(OBJCOPY) --wildcard --localize-symbol='user_*' --localize-symbol='sockmap_*' --localize-symbol='__odr_asan.*' $(LIB_OBJ_DIR)/all.o
	$(AR) rcs $@ $(LIB_OBJ_DIR)/all.o

# Anew each time: "make" and then "make install PREFIX=" may well differ in what is in it.
$(B)/libsplice.pc: libsplice/libsplice.pc.in FORCE
	@mkdir -p $(@D)
	@sed -e 's|@PREFIX@|$(PREFIX)|' -e 's|@LIBDIR@|$(LIBDIR)|' \
		-e 's|@INCLUDEDIR@|$(INCLUDEDIR)|' -e 's|@VERSION@|$(LIB_VERSION)|' $< > $@
FORCE:

-include $(LIB_OBJS:.o=.d)
