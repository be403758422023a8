"""The table of workloads. A row says what pgbench does, not through which proxy."""
import dataclasses


@dataclasses.dataclass(frozen=True)
class Work:
    name: str
    title: str
    script: tuple = ("-b", "select-only")
    mode: str = "simple"
    clients: int = 32
    tls: bool = False
    connect: bool = False
    scram: bool = False
    writes: bool = False
    variants: tuple = ()  # of pgweir, measured in this row only: what is not the default
    sets: str = "bench full"

    @property
    def threads(self):
        # pgbench waits for a Parse's answer with the whole thread: with fewer threads than clients, those that hold the
        # pool's connections in a transaction would wait for one that waits for the pool.
        return self.clients if self.mode == "prepared" and self.writes else min(2, self.clients)

    @property
    def needs_named_statements(self):
        return self.mode in ("prepared", "extended")


TPCB, UPDATE = ("-b", "tpcb-like"), ("-b", "simple-update")
# The simple protocol by Bind and Execute of prepared statements; the same with two workers and over unix sockets.
CACHED = "pgweir:cached:simple_query_cache=1"
CACHED_2 = "pgweir:cached-2:simple_query_cache=1,workers=2,sockets=1"
SESSION = "pgweir:session:consistency=session"
MIXED = ("-b", "select-only@9", "-b", "tpcb-like@1")
WORKS = (
    Work("select-simple", "select-only, simple", sets="quick bench full", variants=(CACHED, CACHED_2)),
    Work("select-extended", "select-only, extended (unnamed)", mode="extended"),
    Work("select-prepared", "select-only, prepared", mode="prepared", sets="quick bench full"),
    Work("tpcb-simple", "tpcb-like, simple", script=TPCB, writes=True, sets="quick bench full"),
    Work("tpcb-prepared", "tpcb-like, prepared", script=TPCB, mode="prepared", writes=True),
    Work("update-simple", "simple-update, simple", script=UPDATE, writes=True),
    Work("select-tls", "select-only, simple, TLS to the client", tls=True),
    Work("connect", "connection and one select, trust", connect=True),
    Work("select-simple-8", "select-only, simple, 8 clients", clients=8, sets="full"),
    Work("select-prepared-8", "select-only, prepared, 8 clients", mode="prepared", clients=8, sets="full"),
    Work("connect-scram", "connection and one select, SCRAM", connect=True, scram=True, sets="full"),
    Work("connect-tls-scram", "connection and one select, TLS and SCRAM", connect=True, scram=True, tls=True, sets="full"),
    Work("mixed-simple", "9 select-only to 1 tpcb-like, simple", script=MIXED, writes=True, variants=(SESSION,)),
)
BY_NAME = {w.name: w for w in WORKS}


def of_set(name):
    return [w for w in WORKS if name in w.sets.split()]
