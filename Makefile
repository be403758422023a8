# pgweir - one non-recursive Makefile.
#
#   make            release binary build/pgweir          make SAN=asan|tsan|debug    build/<variant>/pgweir
#   make deps       installs what is missing             make demo / demo-stop       a throwaway cluster to look at
#   make test       all that CI runs                     make test-long              the rest
#   make unit, lint, format, bench, fuzz, test-mutants, install

SHELL := /bin/bash
PREFIX ?= /usr/local
SAN ?= release
BUILD := build/$(SAN)
# Debian's clang is versioned; the unversioned name wins where it is there.
CLANG ?= $(shell command -v clang || command -v clang-19 || command -v clang-16 || command -v clang-14 || echo clang)
VERSION := $(shell cat VERSION 2>/dev/null || echo 0.1.0)

PKGS := libevent_core libevent_extra libevent_openssl libssl libcrypto libpq libprotobuf-c libxxhash jansson libidn
HAVE_PKGS := $(shell pkg-config --exists $(PKGS) 2>/dev/null && echo yes)

WARN := -Wall -Wextra -Wshadow -Wstrict-prototypes -Wmissing-prototypes -Wold-style-definition -Wundef -Wformat=2 \
	-Wmissing-format-attribute -Wpointer-arith -Wwrite-strings -Wvla -Wimplicit-fallthrough -Wswitch-enum -Wenum-conversion
ifdef CI
WARN += -Werror
endif
ifeq ($(SAN),release)
# The path of a query leads through a dozen files in small steps: inlined over them it is a tenth shorter.
LTO := -flto=auto
VARFLAGS := -O2 -DNDEBUG -D_FORTIFY_SOURCE=2 $(LTO) -ffat-lto-objects -fomit-frame-pointer
else ifeq ($(SAN),debug)
VARFLAGS := -O1 -DPGWEIR_TEST_BUILD
else ifeq ($(SAN),asan)
VARFLAGS := -O1 -DPGWEIR_TEST_BUILD -fsanitize=address,undefined -fno-sanitize-recover=undefined
else ifeq ($(SAN),tsan)
VARFLAGS := -O1 -DPGWEIR_TEST_BUILD -fsanitize=thread
else
$(error SAN must be release, debug, asan or tsan, not "$(SAN)")
endif

CFLAGS ?= -g
ALL_CFLAGS = -std=gnu17 -D_GNU_SOURCE -DPGWEIR_VERSION='"$(VERSION)"' -Iinclude $(shell pkg-config --cflags $(PKGS)) \
	-I$(BUILD)/gen -fPIE -fvisibility=hidden -fstack-protector-strong -fno-omit-frame-pointer -pthread $(WARN) $(VARFLAGS) $(CFLAGS)
ALL_LDFLAGS = -pie -pthread -Wl,-z,relro,-z,now $(filter -fsanitize% -O% -flto%,$(VARFLAGS)) $(LDFLAGS)
LIBS = $(shell pkg-config --libs $(PKGS)) -linih -lpg_query -lm

SRC := $(wildcard src/*/*.c)
OBJ := $(SRC:%.c=$(BUILD)/%.o)
MAIN_OBJ := $(BUILD)/src/main.o
BIN := $(if $(filter release,$(SAN)),build/pgweir,$(BUILD)/pgweir)

.PHONY: all deps unit unit-programs lint format clean demo demo-stop test test-long test-mutants bench bench-full fuzz install app-test
all: $(BIN)

$(BIN): $(OBJ) $(MAIN_OBJ)
	@mkdir -p $(@D)
	@echo "  LD $@"
	@$(CC) $(ALL_LDFLAGS) -o $@ $^ $(LIBS)

$(BUILD)/%.o: %.c
	@mkdir -p $(@D)
	@echo "  CC $<"
	@$(CC) $(ALL_CFLAGS) -MMD -MP -c -o $@ $<

# The layers wire and base do arithmetic on lengths from the network: conversions there are explicit.
$(BUILD)/src/wire/%.o $(BUILD)/src/base/%.o: WARN += -Wconversion

# On the path of a query -O3 saves a further 5 % of the instructions, and larger functions taken into their callers a tenth.
INLINE := max-inline-insns-auto=100 max-inline-insns-single=500 inline-unit-growth=100 large-function-growth=400 \
	large-function-insns=6000
ifeq ($(SAN),release)
$(BUILD)/src/proxy/%.o $(BUILD)/src/io/%.o $(BUILD)/src/sql/%.o $(BUILD)/src/wire/%.o: VARFLAGS += -O3 $(if $(findstring clang,$(CC)),,$(INLINE:%=--param %))
endif

# Has the page inside (.incbin).
$(BUILD)/src/control/page.o build/fuzz/obj/src/control/page.o: src/control/page.html

-include $(OBJ:.o=.d) $(MAIN_OBJ:.o=.d)

# --- unit tests: tests/unit/<layer>/test_<module>.c, one cmocka program each, linked with everything but main ---
UNIT_SRC := $(wildcard tests/unit/*/test_*.c)
UNIT_BIN := $(UNIT_SRC:tests/unit/%.c=$(BUILD)/unit/%)
$(BUILD)/unit/%: tests/unit/%.c $(OBJ)
	@mkdir -p $(@D)
	$(CC) $(ALL_CFLAGS) -Wno-missing-prototypes -MMD -MP -o $@ $< $(OBJ) $(ALL_LDFLAGS) -fno-lto $(LIBS) -lcmocka
-include $(UNIT_BIN:=.d)
unit-programs: $(UNIT_BIN)
unit: $(UNIT_BIN)
	tests/run-unit.sh $(UNIT_BIN)

# --- fuzzers: tests/fuzz/fuzz_<what>.c with LLVMFuzzerTestOneInput ---
FUZZ_SECONDS ?= 60
FUZZ_SRC := $(wildcard tests/fuzz/fuzz_*.c)
FUZZ_BIN := $(FUZZ_SRC:tests/fuzz/%.c=build/fuzz/%)
FUZZ_OBJ := $(SRC:%.c=build/fuzz/obj/%.o)
FUZZ_FLAGS = -std=gnu17 -D_GNU_SOURCE -DPGWEIR_TEST_BUILD -DPGWEIR_VERSION='"fuzz"' -Iinclude $(shell pkg-config --cflags $(PKGS)) -g -O1 -pthread \
	-fsanitize=address,undefined -fno-sanitize-recover=undefined
build/fuzz/obj/%.o: %.c
	@mkdir -p $(@D)
	$(CLANG) $(FUZZ_FLAGS) -fsanitize=fuzzer-no-link -MMD -MP -c -o $@ $<
build/fuzz/%: tests/fuzz/%.c $(FUZZ_OBJ)
	@mkdir -p $(@D)
	$(CLANG) $(FUZZ_FLAGS) -fsanitize=fuzzer -o $@ $< $(FUZZ_OBJ) $(LIBS)
-include $(FUZZ_OBJ:.o=.d)
fuzz: $(FUZZ_BIN)
	tests/run-fuzz.sh $(FUZZ_SECONDS) $(FUZZ_BIN)

# --- benchmarks: bench/README.md says what is measured ---
BENCH_CFLAGS := -std=gnu17 -D_GNU_SOURCE -O2 -g -Wall -Wextra -Wshadow -Wstrict-prototypes -Wmissing-prototypes -Wconversion
build/bench/%: bench/%.c
	@mkdir -p $(@D)
	$(CC) $(BENCH_CFLAGS) -pthread -o $@ $<
BENCH_BIN := build/bench/l4 build/bench/stub build/bench/load
# Each part runs even when one before it had an error; the last puts what there is into README.md.
bench: all $(BENCH_BIN)
	bench/run.py $(BENCH_ARGS); a=$$?; bench/flat.py; b=$$?; bench/instructions.py; c=$$?; bench/publish.py; exit $$((a | b | c))
# The long form also makes a PgBouncer that is new enough, where that is possible.
bench-full: all $(BENCH_BIN)
	PGBOUNCER=$${PGBOUNCER:-$$(bench/get-pgbouncer.sh || echo /usr/sbin/pgbouncer)}; export PGBOUNCER; \
	bench/run.py --full $(BENCH_ARGS); a=$$?; bench/memory.py --idle 5000 --repeat 3; b=$$?; bench/flat.py --rounds 5; c=$$?; \
	bench/crowd.py; d=$$?; bench/instructions.py; e=$$?; bench/publish.py; exit $$((a | b | c | d | e))

lint:
	tests/lint/run.sh

format:
	@f=$$(command -v clang-format || command -v clang-format-14); $$f -i $$(git ls-files '*.c' '*.h')

deps:
	tests/deps.sh

clean:
	rm -rf build

test:
	tests/run-all.sh

test-long:
	tests/run-long.sh

demo:
	tests/demo.sh start

demo-stop:
	tests/demo.sh stop

# DESTDIR is for packagers; a configuration that is there already is left alone.
SYSCONFDIR ?= /etc
MANDIR ?= $(PREFIX)/share/man
DOCDIR ?= $(PREFIX)/share/doc/pgweir
UNITDIR ?= $(PREFIX)/lib/systemd/system
install: all
	install -D -m 0755 build/pgweir $(DESTDIR)$(PREFIX)/bin/pgweir
	install -D -m 0644 docs/man/pgweir.1 $(DESTDIR)$(MANDIR)/man1/pgweir.1
	install -D -m 0644 docs/man/pgweir.ini.5 $(DESTDIR)$(MANDIR)/man5/pgweir.ini.5
	install -D -m 0644 conf/minimal.ini $(DESTDIR)$(PREFIX)/share/pgweir/minimal.ini
	install -D -m 0644 conf/pgweir.ini $(DESTDIR)$(PREFIX)/share/pgweir/pgweir.ini
	install -d $(DESTDIR)$(DOCDIR)/docs $(DESTDIR)$(UNITDIR) $(DESTDIR)$(SYSCONFDIR)/pgweir
	install -m 0644 README.md CHANGELOG.md LICENSE $(DESTDIR)$(DOCDIR)
	install -m 0644 docs/*.md $(DESTDIR)$(DOCDIR)/docs
	sed 's|@PREFIX@|$(PREFIX)|' conf/pgweir.service >$(DESTDIR)$(UNITDIR)/pgweir.service
	chmod 0644 $(DESTDIR)$(UNITDIR)/pgweir.service
	test -e $(DESTDIR)$(SYSCONFDIR)/pgweir/pgweir.ini || \
		install -m 0640 conf/minimal.ini $(DESTDIR)$(SYSCONFDIR)/pgweir/pgweir.ini
