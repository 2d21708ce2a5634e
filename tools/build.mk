# SPDX-License-Identifier: GPL-2.0
# splicectl: links the library statically, so that the one file is all there is to install.
TOOL_SRCS := splicectl out addr nl op listed cmd_probe cmd_list cmd_stats cmd_monitor cmd_end \
	     cmd_relay relay_loop relay_listen relay_conn relay_metrics
TOOL_OBJS := $(TOOL_SRCS:%=$(B)/obj/tools/%.o)
TOOL_TARGETS += $(B)/splicectl

$(TOOL_OBJS): $(B)/obj/tools/%.o: tools/%.c tools/build.mk VERSION
	@mkdir -p $(@D)
	$(CC) -std=gnu11 -D_GNU_SOURCE -DSPLICECTL_VERSION='"$(LIB_VERSION)"' $(WARN) $(CPPFLAGS) $(CFLAGS) -MMD -MP -c -o $@ $<

$(B)/splicectl: $(TOOL_OBJS) $(B)/libsplice.a
	$(CC) $(CFLAGS) $(LDFLAGS) -o $@ $(TOOL_OBJS) $(B)/libsplice.a $(LIB_LIBS) -ljson-c $(LDLIBS)

-include $(TOOL_OBJS:.o=.d)
