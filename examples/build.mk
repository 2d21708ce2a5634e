# SPDX-License-Identifier: LGPL-2.1-only OR BSD-2-Clause
# The example programs, into $(B)/examples/. Included by the top-level Makefile.
EXAMPLE_OBJ := $(B)/obj/examples
EXAMPLE_sni_proxy := sni_proxy sni_client setup hello proxy_header upstream
EXAMPLE_http_body := http_body http_io setup head
EXAMPLE_tls_relay := tls_relay tls_client tls_keys setup
EXAMPLE_PROGRAMS := $(B)/examples/sni_proxy $(B)/examples/http_body $(B)/examples/tls_relay

TEST_TARGETS += $(EXAMPLE_PROGRAMS)

$(EXAMPLE_OBJ)/%.o: examples/%.c examples/build.mk
	@mkdir -p $(@D)
	$(CC) -std=gnu11 -D_GNU_SOURCE $(WARN) $(CPPFLAGS) $(CFLAGS) -Ilibsplice -MMD -MP -c -o $@ $<

$(B)/examples/sni_proxy: $(EXAMPLE_sni_proxy:%=$(EXAMPLE_OBJ)/%.o) $(B)/libsplice.a
$(B)/examples/http_body: $(EXAMPLE_http_body:%=$(EXAMPLE_OBJ)/%.o) $(B)/libsplice.a
$(B)/examples/tls_relay: $(EXAMPLE_tls_relay:%=$(EXAMPLE_OBJ)/%.o) $(B)/libsplice.a
$(B)/examples/tls_relay: LDLIBS += -lssl -lcrypto
$(EXAMPLE_PROGRAMS):
	@mkdir -p $(@D)
	$(CC) $(CFLAGS) $(LDFLAGS) -o $@ $^ $(LIB_LIBS) $(LDLIBS)

-include $(wildcard $(EXAMPLE_OBJ)/*.d)
