"""Makes programs from a seed, and cuts a failing one down."""
import random
import time

from . import statements, world
from .statements import KINDS, LOOKS, MASKED
from .twin import Difference


class Program:
    """Random steps for some clients.  Each program draws from a part of the kinds only: what pins would otherwise be in
    all of them, and a pinned client cannot show a leak."""

    def __init__(self, seed):
        self.r = random.Random(seed)
        self.drawn = {}
        light = self.r.random() < 0.5
        share = self.r.choice([0.35, 0.6, 1])
        self.kinds = [(name, *KINDS[name]) for name in KINDS if name not in MASKED
                      and not (light and "heavy" in KINDS[name][2]) and (self.r.random() < share or name in ("begin", "finish", "read"))]
        self.looking = self.r.choice([1, 1, 0.3, 0.05])
        self.looks = [name for name in LOOKS if name not in MASKED
                      and (name in ("settings", "users", "paths", "marker") or not light and self.r.random() < 0.6)]
        self.together = self.r.choice([0, 0, 0.3])
        self.draws = [statements.Draw(self.r, client) for client in range(world.CLIENTS)]

    def start(self):
        """Sessions to begin with."""
        return [[(draw.client, [["connect", statements.start_up(draw) if self.r.random() < 0.5 else {"user": "postgres"}]])]
                for draw in self.draws]

    def next(self, in_transaction):
        """The next group; in_transaction: clients that have one open."""
        count = self.r.randrange(2, 5) if self.r.random() < self.together else 1
        inside = [c for c in in_transaction]
        if len(inside) >= 3 or (inside and self.r.random() < 0.4):
            clients = self.r.sample(inside, min(count, len(inside)))
        else:
            clients = self.r.sample(range(world.CLIENTS), count)
        return [(c, self.step(self.draws[c], c in inside)) for c in clients]

    def step(self, draw, inside):
        wanted = "in" if inside else "out"
        fitting = [(name, function, weight) for name, function, weight, where in self.kinds
                   if where.split()[-1] == "any" or where.split()[-1] == wanted or self.r.random() < 0.03]
        name, function, _ = self.r.choices(fitting, [weight for _, _, weight in fitting])[0]
        self.drawn[name] = self.drawn.get(name, 0) + 1
        draw.in_transaction = inside
        made = function(draw)
        return self.by_some_protocol(made) if isinstance(made, str) else made

    def by_some_protocol(self, sql):
        body = [["B", "", "", []], ["E", "", 0], ["S"]]
        return self.r.choices([[["Q", sql]],
                               [["P", "", sql], *body],
                               [["P", "", sql], ["B", "", "", []], ["D", "P", ""], ["E", "", 0], ["S"]],
                               [["P", "", sql], ["D", "S", ""], ["S"], *body],
                               [["C", "S", "x1"], ["P", "x1", sql], ["B", "", "x1", []], ["E", "", 0], ["S"]]],
                              [6, 2, 2, 1, 1])[0]

    def looks_after(self, client, failed):
        """What is asked after a step; nothing can be asked in a failed transaction."""
        if failed or self.r.random() > self.looking:
            return []
        names = ["settings"] if self.r.random() < 0.6 else []
        names += [self.r.choice(self.looks)]
        return [[(client, self.by_some_protocol(LOOKS[name]) if self.r.random() < 0.5 else [["Q", LOOKS[name]]])] for name in dict.fromkeys(names)]


def generate_and_run(seed, steps, twins):
    """Makes a program while it runs, since what fits depends on where the transactions stand.  Returns (drawn, program,
    the Difference or None)."""
    program = Program(seed)
    groups = []

    def run(group):
        groups.append(group)
        twins.group(group)

    try:
        for group in program.start():
            run(group)
        while twins.steps < steps:
            group = program.next(twins.open_transactions())
            run(group)
            for client, _ in group:
                for look in program.looks_after(client, twins.pairs[client][1].status == "E"):
                    run(look)
        for client in sorted(twins.pairs):
            if twins.pairs[client][1].status == "E":
                run([(client, [["Q", "rollback"]])])
        for client in sorted(twins.pairs):
            for name in program.looks:
                if twins.pairs[client][1].status == "I":
                    run([(client, [["Q", LOOKS[name]]])])
    except Difference as difference:
        return program.drawn, groups, difference
    return program.drawn, groups, None


class Shrinker:
    """Leaves out of a failing program what it fails without."""

    def __init__(self, replay, signature, seconds):
        """replay(program) returns the Difference or None."""
        self.replay, self.signature = replay, signature
        self.deadline = time.monotonic() + seconds
        self.last = None

    def fails(self, program):
        if time.monotonic() > self.deadline:
            return False
        found = self.replay(program)
        if found is None or found.signature() != self.signature:
            return False
        self.last = found
        return True

    def shrink(self, program):
        """The shortest that was found in the time given."""
        program = [[one] for group in program for one in group] if any(len(group) > 1 for group in program) and \
            self.fails([[one] for group in program for one in group]) else program
        for client in sorted({c for group in program for c, _ in group}):
            fewer = [kept for group in program if (kept := [(c, s) for c, s in group if c != client])]
            if len(fewer) < len(program) and self.fails(fewer):
                program = fewer
        size = max(1, len(program) // 2)
        while True:
            at, cut = len(program), False
            while at > 0:
                start = max(0, at - size)
                fewer = program[:start] + program[at:]
                if fewer and self.fails(fewer):
                    program, cut = fewer, True
                at = start
            if size == 1 and not cut:
                break
            if time.monotonic() > self.deadline:
                break
            size = max(1, size // 2)
        return program


def printed(program):
    """A program as Python, to be kept in a file and run again."""
    return "[\n" + "".join(f"    {group!r},\n" for group in program) + "]\n"
