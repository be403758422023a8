"""Runs a program on clients of the proxy and on private connections beside them, and compares all that each step shows.

A program is a list of groups; a group is a list of (client, step) of different clients whose first messages are sent
before any answer is read.  Steps are those of statements.py."""
import re
import struct

from harness import wire
from harness.wire import Closed, PgError

from . import statements


POOL = 3  # backends for each user and server: of so many clients with an open transaction no other one gets served
# 25006 of ours, and in the words that only a standby has for it.
REFUSED = ("in a read-only transaction that runs on a replica", "during recovery")
PATIENCE = 30.0  # without an answer for so long, there will be none
_UNSTEADY = [(re.compile(r"pg_(toast_)?temp_\d+"), "pg_temp_N"), (re.compile(r"leak_[pd]_"), "leak_@_")]
_COMPARED_FIELDS = "SVCMDHPpqWsctdn"
_OPENS = re.compile(r"\b(begin|start\s+transaction)\b", re.I)


class Difference(Exception):
    """The two sides do not agree."""

    def __init__(self, aspect, client, step, expected, got):
        super().__init__(f"client {client}, {aspect}\n  step:     {step}\n  expected: {apart(expected, got)}\n"
                         f"  got:      {apart(got, expected)}")
        self.aspect, self.client, self.step, self.expected, self.got = aspect, client, step, expected, got

    def signature(self):
        """What must stay the same while a program is cut down."""
        first = next(((e, g) for e, g in zip(self.expected, self.got) if e != g), (None, None)) \
            if isinstance(self.expected, list) and isinstance(self.got, list) else (None, None)
        return self.aspect, *(str(x)[:24] for x in first)


def apart(trace, other):
    """What of a trace is not in the other one, with its place; for reading."""
    return [f"{n}: {text}" for n, text in enumerate(trace) if n >= len(other) or other[n] != text][:6]


def told(connection):
    """What a client has been told by ParameterStatus."""
    return [f"S {name}={value}" for name, value in sorted(connection.parameters.items())]


def steady(text):
    for pattern, replacement in _UNSTEADY:
        text = pattern.sub(replacement, text)
    return text


def row_description(body):
    """Names, types, formats; where a column comes from only as whether it comes from somewhere; own types have no number."""
    count, at, columns = struct.unpack_from("!H", body)[0], 2, []
    for _ in range(count):
        end = body.index(b"\0", at)
        table, number, kind, size, modifier, form = struct.unpack_from("!IhIhih", body, end + 1)
        columns.append((body[at:end].decode(errors="replace"), bool(table), number, min(kind, 16384), size, modifier, form))
        at = end + 19
    return columns


def shown(message):
    """A message as it is compared; None for what stands for itself elsewhere."""
    if message.type == "S":
        return None
    if message.type in "EN":
        fields = message.fields
        return f"{message.type} " + steady(str({k: fields[k] for k in _COMPARED_FIELDS if k in fields}))
    if message.type == "T":
        return f"T {row_description(message.body)}"
    if message.type == "t":
        count = struct.unpack_from("!H", message.body)[0]
        return f"t {[min(oid, 16384) for oid in struct.unpack_from(f'!{count}I', message.body, 2)]}"
    if message.type == "D":
        return "D " + steady(str(message.values))
    if message.type == "A":
        return "A " + message.body[4:].decode(errors="replace")
    if message.type == "K":
        return None
    return message.type + " " + steady(message.body.decode(errors="replace"))


ENCODE = {
    "Q": wire.query, "P": wire.parse, "B": wire.bind, "D": wire.describe, "E": wire.execute, "C": wire.close, "S": wire.sync,
    "H": wire.flush, "F": wire.function_call, "d": wire.copy_data, "c": wire.copy_done, "f": wire.copy_fail,
}


class Side:
    """One client's connection on one side."""

    def __init__(self, endpoint, database, letter):
        self.endpoint, self.database, self.letter = endpoint, database, letter
        self.connection = None
        self.status = "I"

    def connect(self, parameters):
        self.trace = []
        try:
            self.connection = self.endpoint.connect(database=self.database, timeout=PATIENCE, **parameters)
            self.status = "I"
        except (PgError, Closed) as refusal:
            self.connection = None
            self.trace = [f"refused {getattr(refusal, 'sqlstate', 'closed')}"]

    def end(self, how):
        if self.connection:
            {"terminate": self.connection.close, "drop": self.connection.drop, "reset": self.connection.reset}[how]()
        self.connection, self.status = None, "I"

    def encode(self, messages):
        return b"".join(ENCODE[kind](*[self._own(word) for word in words]) for kind, *words in messages)

    def _own(self, word):
        return word.replace("leak_@_", f"leak_{self.letter}_") if isinstance(word, str) else word

    def start(self, messages):
        """Sends the first part of a step; the rest follows in finish."""
        self.trace, self.parts = [], [[]]
        for message in messages:
            self.parts[-1].append(message)
            if message[0] == "|":
                self.parts.append([])
        self.due = sum(message[0] in "QSF" for message in messages)
        self._send(self.parts.pop(0))

    def _send(self, part):
        self.until = part[-1][1] if part and part[-1][0] == "|" else ""
        try:
            self.connection.send(self.encode([m for m in part if m[0] != "|"]))
        except OSError:
            self.trace.append("cannot send")

    def finish(self):
        """Reads up to the last ReadyForQuery of a step."""
        try:
            while self.due:
                message = self.connection.read()
                self._note(message)
                if message.type == "Z":
                    self.due -= 1
                    self.status = message.text
                while self.parts and (message.type == "E" or message.type in self.until):
                    self._send(self.parts.pop(0))
                    if message.type != "E":  # after an error the rest up to Sync is skipped, and answers nothing
                        break
        except (Closed, ConnectionError):
            self.trace.append("closed")
            self.end("drop")
        except TimeoutError:
            self.trace.append("no answer")
            self.end("drop")

    def _note(self, message):
        text = shown(message)
        if text is not None:
            self.trace.append(text)
        if message.type == "Z":  # the net effect of ParameterStatus counts, not when each of them came
            self.trace += told(self.connection)


class Twins:
    """All clients of a program, each twice."""

    def __init__(self, proxy, direct, proxied_database, direct_database):
        self.ends = (proxy, proxied_database, "p"), (direct, direct_database, "d")
        self.pairs = {}
        self.steps = self.refused = 0
        self.counts = {}

    def pair(self, client):
        if client not in self.pairs:
            self.pairs[client] = [Side(*end) for end in self.ends]
            self._connect(client, {"user": "postgres"})
        return self.pairs[client]

    def open_transactions(self, without=None):
        return [c for c, (_, direct) in self.pairs.items() if direct.status != "I" and c != without]

    def run(self, program):
        """Runs all groups; raises the first Difference."""
        for number, group in enumerate(program):
            try:
                self.group(group)
            except Difference as difference:
                difference.at = number
                raise

    def group(self, group):
        """Steps that could wait for ever, because every backend belongs to somebody's open transaction, are left out: the
        same ones whenever the program is run again."""
        opening = len(self.open_transactions())
        chosen = []
        for client, step in group:
            self.pair(client)
            if self.pairs[client][1].status == "I":
                opens = bool(_OPENS.search(str(step)))
                if opening >= POOL or (opens and opening + 1 >= POOL and len(group) > 1):
                    continue
                opening += opens and len(group) > 1
            chosen.append((client, step))
        if len(chosen) == 1 or any(step[0][0] in ("end", "connect", "lost") for _, step in chosen):
            for client, step in chosen:
                self.step(client, step)
            return
        for side in (1, 0):
            for client, step in chosen:
                if self._usable(client):
                    self.pairs[client][side].start(step)
            for client, step in chosen:
                if self._usable(client):
                    self.pairs[client][side].finish()
        for client, step in chosen:
            if self._usable(client):
                self._compare(client, step)

    def _usable(self, client):
        return self.pairs[client][1].connection is not None

    def step(self, client, step):
        kind = step[0][0]
        if kind in ("end", "lost"):
            for side in self.pairs[client]:
                if kind == "lost" and side.connection:
                    side.start(step[0][1])
                side.end(step[0][-1])
            step = step[1:]
            if not step:
                return
            kind = step[0][0]
        if kind == "connect":
            self._connect(client, step[0][1])
            return
        if not self._usable(client):
            return
        proxied, direct = self.pairs[client]
        for side in (direct, proxied):
            side.start(step)
            side.finish()
        self._compare(client, step)

    def _connect(self, client, parameters):
        proxied, direct = self.pairs[client]
        for side in (direct, proxied):
            side.connect({**parameters})
            if side.connection:
                side.trace += told(side.connection)
        self._compare(client, [["connect", parameters]])

    def _compare(self, client, step):
        proxied, direct = self.pairs[client]
        self.steps += 1
        if "libraries" in statements.MASKED and "show all" in str(step):
            for side in (proxied, direct):
                side.trace = [line for line in side.trace if not line.startswith(("D ('plpgsql.", "C SHOW"))]
        if "read only on a replica" in statements.MASKED and direct.connection and proxied.connection:
            self._forgive_replica(proxied, direct, step)
        if proxied.trace != direct.trace:
            raise Difference(aspect(step, direct.trace, proxied.trace), client, step, direct.trace, proxied.trace)
        if direct.connection is None and proxied.connection is not None:
            proxied.end("drop")

    def _forgive_replica(self, proxied, direct, step):
        """After a refusal of ours the two have not done the same any more; and a replica says that it is one."""
        if any("25006" in line and words in line for line in proxied.trace for words in REFUSED):
            self.refused += 1
            self._renew(proxied, direct)
        elif direct.status == "T" and "in_hot_standby" in str(step):
            for side in (proxied, direct):
                side.trace = [line for line in side.trace if "in_hot_standby" not in line and line not in ("D ('on',)", "D ('off',)")]

    def _renew(self, *sides):
        for side in sides:
            side.end("terminate")
            side.connect({"user": "postgres"})
            side.trace = []

    def close(self):
        for pair in self.pairs.values():
            for side in pair:
                side.end("terminate")
        self.pairs = {}


def aspect(step, expected, got):
    """In which way two traces differ."""
    if step[0][0] == "connect":
        return "login"
    if got and got[-1] in ("closed", "no answer"):
        return got[-1]
    for left, right in zip(expected, got):
        if left != right:
            return "parameters" if left[:2] == right[:2] == "S " else "answer"
    return "length"
