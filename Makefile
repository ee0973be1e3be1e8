# Chancery: `make help` says what each target does.
# Four floors, each a static archive that may use only those before it in this list.
FLOORS := storage identity federation server

CC := cc
VARIANT ?= release
BUILD := build/$(VARIANT)
PACKAGES := glib-2.0 libmicrohttpd gnutls openssl libsodium olm libpq libcjson libcurl
# Made once the Debian packages are there (make reads it again after making it).
ifneq ($(filter-out clean help,$(or $(MAKECMDGOALS),build)),)
-include build/packages.mk
endif

WARNINGS := -Wall -Wextra -Werror -Wshadow -Wstrict-prototypes -Wmissing-prototypes -Wvla -Wno-unused-parameter -Wno-missing-field-initializers
HARDENING := -fPIE -fstack-protector-strong -fstack-clash-protection -fcf-protection
LINK_HARDENING := -pie -Wl,-z,relro,-z,now,-z,noexecstack
CFLAGS_release := -O2 -D_FORTIFY_SOURCE=2 $(HARDENING)
LDFLAGS_release := $(LINK_HARDENING)
CFLAGS_asan := -O1 -fno-omit-frame-pointer -fsanitize=address,undefined -fno-sanitize-recover=undefined
LDFLAGS_asan := -fsanitize=address,undefined
# VARIANT=fuzz is for `make fuzz`, with clang.
# (clang does not count an automatic free as a use of a variable)
CFLAGS_fuzz := -Wno-unused-variable -O1 -fno-omit-frame-pointer -fsanitize=fuzzer-no-link,address,undefined -fno-sanitize-recover=undefined
LDFLAGS_fuzz := -fsanitize=fuzzer,address,undefined
ALL_CFLAGS := -std=gnu11 -D_GNU_SOURCE -g $(WARNINGS) $(CFLAGS_$(VARIANT)) -I. -I$(BUILD) $(PACKAGE_CFLAGS) $(CFLAGS)
ALL_LDFLAGS := $(LDFLAGS_$(VARIANT)) $(LDFLAGS)

# Ways in that only test suites need come in at link time: the admission files are linked by name.
ADMISSION := $(wildcard identity/admission.c federation/admission.c)
MAIN := server/main.c
floor_sources = $(filter-out $(ADMISSION) $(MAIN),$(wildcard $(1)/*.c $(1)/*/*.c))
SOURCES := $(foreach floor,$(FLOORS),$(call floor_sources,$(floor)))
MIGRATIONS := $(wildcard storage/migrations/*.sql)
OBJECTS := $(SOURCES:%.c=$(BUILD)/%.o) $(BUILD)/storage/migration_table.o $(BUILD)/storage/statement_table.o
TEST_SOURCES := $(wildcard tests/*/test_*.c)
TEST_SUPPORT := $(filter-out $(TEST_SOURCES),$(wildcard tests/support/*.c))
TEST_PROGRAMS := $(TEST_SOURCES:%.c=$(BUILD)/%)

ifeq ($(MAKELEVEL)$(filter -j%,$(MAKEFLAGS)),0)
MAKEFLAGS += -j$(shell nproc)
endif
.SECONDARY: # objects of tests are kept
.PHONY: build openserver run demo test lint check-asan check-room fuzz bench bench-room c-tests test-deps run-deps clean help
build: $(if $(wildcard $(MAIN)),$(BUILD)/chancery,$(BUILD)/libchancery.a)

$(BUILD)/chancery: $(MAIN:%.c=$(BUILD)/%.o) $(ADMISSION:%.c=$(BUILD)/%.o) $(BUILD)/libchancery.a
	@echo '  ld $@'
	@$(CC) $(ALL_LDFLAGS) -o $@ $^ $(PACKAGE_LIBS)

# The test-only server for public conformance suites: the same archive, admission of its own.
OPENSERVER := $(wildcard tests/openserver/*.c)
openserver: $(if $(OPENSERVER),$(BUILD)/openserver)
$(BUILD)/openserver: $(OPENSERVER:%.c=$(BUILD)/%.o) $(BUILD)/libchancery.a
	@echo '  ld $@'
	@$(CC) $(ALL_LDFLAGS) -o $@ $^ $(PACKAGE_LIBS)

# One archive: the floor rule is held by `make lint`, not by link order.
$(BUILD)/libchancery.a: $(OBJECTS)
	@rm -f $@
	@ar rcs $@ $^

$(BUILD)/%.o: %.c
	@mkdir -p $(@D)
	@echo '  cc $<'
	@$(CC) $(ALL_CFLAGS) -MMD -MP -c -o $@ $<

# A clock before the build is wrong (identity/clock_rule.h); SOURCE_DATE_EPOCH makes the build reproducible.
$(BUILD)/identity/clock_rule.o: ALL_CFLAGS += -DCHANCERY_BUILD_SECONDS=$(or $(SOURCE_DATE_EPOCH),$(shell date +%s))

# The numbered SQL files become one table in the program.
$(BUILD)/storage/migration_table.c: $(MIGRATIONS) storage/migration_table.sh
	@mkdir -p $(@D)
	@sh storage/migration_table.sh $(MIGRATIONS) > $@.new && mv $@.new $@

$(BUILD)/storage/migration_table.o: $(BUILD)/storage/migration_table.c
	@echo '  cc $<'
	@$(CC) $(ALL_CFLAGS) -MMD -MP -c -o $@ $<

# The statements of every store, gathered for the test that prepares and explains them.
STATEMENT_SOURCES := $(wildcard storage/*.c)
$(BUILD)/storage/statement_table.c: $(STATEMENT_SOURCES) storage/statement_table.sh
	@mkdir -p $(@D)
	@sh storage/statement_table.sh $(STATEMENT_SOURCES) > $@.new && mv $@.new $@

$(BUILD)/storage/statement_table.o: $(BUILD)/storage/statement_table.c
	@$(CC) $(ALL_CFLAGS) -MMD -MP -c -o $@ $<

$(BUILD)/tests/%: tests/%.c $(TEST_SUPPORT:%.c=$(BUILD)/%.o) $(ADMISSION:%.c=$(BUILD)/%.o) $(BUILD)/libchancery.a
	@mkdir -p $(@D)
	@echo '  ld $@'
	@$(CC) $(ALL_CFLAGS) -MMD -MP $(ALL_LDFLAGS) -o $@ $< $(filter %.o %.a,$^) $(PACKAGE_LIBS)

c-tests: $(TEST_PROGRAMS)

build/packages.mk: Makefile tests/harness/deps
	@tests/harness/deps build
	@mkdir -p build
	@printf 'PACKAGE_CFLAGS := %s\nPACKAGE_LIBS := %s -pthread\n' \
	    "$$(pkg-config --cflags $(PACKAGES))" "$$(pkg-config --libs $(PACKAGES))" > $@

run-deps test-deps: build/packages.mk
	@tests/harness/deps $(@:%-deps=%)

run demo: run-deps build
	@exec python3 tests/harness/demo.py $@

test: test-deps build c-tests openserver $(BUILD)/tests/check/room_answers
	@tests/run --variant $(VARIANT) $(TEST_OPTIONS)

check-asan:
	@$(MAKE) --no-print-directory VARIANT=asan test

# Random rooms against Synapse's own functions; CHECK_OPTIONS="--seed N --version V" plays one again.
GRAPHS ?= 10000
check-room: test-deps $(BUILD)/tests/check/room_answers
	@var/venv/bin/python3 tests/check/check_room.py --graphs $(GRAPHS) $(CHECK_OPTIONS)

# Each fuzz target for SECONDS, from the seeds in tests/fuzz/corpus; what it finds interesting is kept under var/fuzz for the
# next time.  TARGETS="fuzz_json fuzz_pdu" runs those alone.
SECONDS ?= 60
FUZZERS := $(or $(TARGETS),$(basename $(notdir $(wildcard tests/fuzz/fuzz_*.c))))
fuzz: test-deps
	@$(MAKE) --no-print-directory VARIANT=fuzz CC=clang $(FUZZERS:%=build/fuzz/tests/fuzz/%)
	@for fuzzer in $(FUZZERS); do mkdir -p var/fuzz/$$fuzzer && echo "$$fuzzer: $(SECONDS) s" && \
	    G_DEBUG=fatal-criticals build/fuzz/tests/fuzz/$$fuzzer -max_total_time=$(SECONDS) -timeout=20 -verbosity=0 \
	    -print_final_stats=1 -print_pcs=0 -print_funcs=0 -artifact_prefix=var/fuzz/$$fuzzer- \
	    var/fuzz/$$fuzzer tests/fuzz/corpus/$$fuzzer || exit 1; done
	@echo "fuzz: $(words $(FUZZERS)) targets of $(SECONDS) s each, no finding"

lint: test-deps build c-tests openserver
	@tests/lint/lint

bench: run-deps build $(BUILD)/tests/bench/load $(BUILD)/tests/bench/bench_lane
	@python3 tests/bench/bench.py

# The room protocol's figures beside those of Synapse's own functions.
bench-room: test-deps $(BUILD)/tests/bench/bench_room $(BUILD)/tests/bench/bench_state
	@var/venv/bin/python3 tests/bench/bench_room.py

clean:
	rm -rf build

help:
	@echo 'make run         build, and start two agencies on loopback; Ctrl-C stops them'
	@echo 'make demo        the same, ending by itself'
	@echo 'make build       compile build/release/chancery'
	@echo 'make openserver  the test-only server for public conformance suites'
	@echo 'make test        all tests; TEST_OPTIONS="--only PATTERN" for some'
	@echo 'make check-asan  all tests with AddressSanitizer and UndefinedBehaviorSanitizer'
	@echo 'make check-room  the room protocol beside another implementation, GRAPHS=10000 random rooms'
	@echo 'make fuzz        every fuzz target for SECONDS=60'
	@echo 'make lint        warnings, static analysis, format, floors, callers'
	@echo 'make bench       print the figures of this machine'
	@echo 'make bench-room  figures of the room protocol beside another implementation'
	@echo 'make clean       remove build/; the data of make run stay in var/'

-include $(shell find $(BUILD) -name '*.d' 2>/dev/null)
