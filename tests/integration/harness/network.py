"""A TCP link that misbehaves on demand, to put between a client and the proxy or between the proxy and a server.

    with Link(node.port) as link:            # listens on link.port, forwards to node.port
        link.delay = 0.05                    # seconds that bytes travel, both ways
        link.piece = 1                       # bytes forwarded at a time
        link.stall("down")                   # "up" is towards the target; bytes wait until resume()
        link.cut()                           # a reset of every connection, both ends
        link.refuse()                        # from now on connections are accepted and dropped; allow() again
        link.hold_cancels()                  # CancelRequests wait in the link until resume(): link.held of them, and then
                                             # link.delivered, when the server has hung up"""
import collections
import selectors
import socket
import struct
import threading
import time

CHUNK = 65536
CANCEL_REQUEST = struct.pack("!ii", 16, 80877102)
# Bytes that wait in the link for a slow or stalled receiver; beyond it the link stops reading, as a network does.
WINDOW = 1 << 20


class Pipe:
    """One direction of one connection: bytes read from `source`, due for `target` at a given time."""

    def __init__(self, direction, source, target):
        self.direction, self.source, self.target = direction, source, target
        self.queue = collections.deque()
        self.waiting = 0
        self.ended = False
        self.forwarded = 0
        self.cancels = False  # what it brings is a CancelRequest


class Link:
    """Runs in a thread of its own; attributes may be set at any time from the test's thread."""

    def __init__(self, target_port, port=0, host="127.0.0.1"):
        self.target = (host, target_port)
        self.delay = 0.0
        self.piece = CHUNK
        self.connections = 0
        self.held = self.delivered = 0
        self._stalled = set()
        self._holding_cancels = False
        self._refusing = False
        self._cut = False
        self._stopping = False
        self._pipes = []
        self._listener = socket.create_server((host, port))
        self._listener.setblocking(False)
        self.port = self._listener.getsockname()[1]
        self._wake_in, self._wake_out = socket.socketpair()
        self._wake_in.setblocking(False)
        self._thread = threading.Thread(target=self._run, name=f"link-{self.port}", daemon=True)
        self._cut_done = threading.Event()

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *_):
        self._stopping = True
        self._wake()
        self._thread.join()

    # the test's side

    def stall(self, direction="both"):
        """Bytes stop: up (towards the target), down, or both.  Connections stay."""
        self._stalled |= {"up", "down"} if direction == "both" else {direction}
        self._wake()

    def hold_cancels(self):
        self._holding_cancels = True

    def resume(self):
        self._stalled = set()
        self._holding_cancels = False
        self._wake()

    def cut(self):
        """Resets every connection; returns when it has happened."""
        self._cut_done.clear()
        self._cut = True
        self._wake()
        assert self._cut_done.wait(30)

    def refuse(self):
        """No way through for new connections."""
        self._refusing = True
        self._wake()

    def allow(self):
        self._refusing = False

    def forwarded(self, direction):
        """Bytes that have gone this way, over all living connections."""
        return sum(pipe.forwarded for pipe in list(self._pipes) if pipe.direction == direction)

    def _wake(self):
        try:
            self._wake_out.send(b"x")
        except BlockingIOError:
            pass

    # the thread's side

    def _run(self):
        while not self._stopping:
            self._turn()
        for pipe in self._pipes:
            pipe.source.close()
            pipe.target.close()
        self._listener.close()
        self._wake_in.close()
        self._wake_out.close()

    def _turn(self):
        with selectors.DefaultSelector() as selector:
            wanted = collections.defaultdict(int)
            wanted[self._listener] = wanted[self._wake_in] = selectors.EVENT_READ
            for pipe in self._pipes:
                if not pipe.ended and pipe.waiting < WINDOW:
                    wanted[pipe.source] |= selectors.EVENT_READ
                if self._is_due(pipe):
                    wanted[pipe.target] |= selectors.EVENT_WRITE
            for sock, events in wanted.items():
                selector.register(sock, events)
            ready = {key.fileobj: events for key, events in selector.select(self._next_due())}
        if self._wake_in in ready:
            self._wake_in.recv(CHUNK)
        if self._cut:
            self._cut_all()
        else:
            for pipe in list(self._pipes):
                self._serve(pipe, ready)
        if self._listener in ready:
            self._accept()

    def _may_go(self, pipe):
        return pipe.queue and pipe.direction not in self._stalled and not (pipe.cancels and self._holding_cancels)

    def _is_due(self, pipe):
        return self._may_go(pipe) and pipe.queue[0][0] <= time.monotonic()

    def _next_due(self):
        times = [pipe.queue[0][0] for pipe in self._pipes if self._may_go(pipe)]
        return max(0.0, min(times) - time.monotonic()) if times else None

    def _accept(self):
        client, _ = self._listener.accept()
        if self._refusing:
            self._reset(client)
            return
        try:
            server = socket.create_connection(self.target, 10)
        except OSError:
            self._reset(client)
            return
        self.connections += 1
        for sock in (client, server):
            sock.setblocking(False)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._pipes += [Pipe("up", client, server), Pipe("down", server, client)]

    def _serve(self, pipe, ready):
        try:
            if ready.get(pipe.source, 0) & selectors.EVENT_READ and not pipe.ended and pipe.waiting < WINDOW:
                self._read(pipe)
            if ready.get(pipe.target, 0) & selectors.EVENT_WRITE and self._is_due(pipe):
                self._write(pipe)
            if pipe.ended and not pipe.queue and pipe.direction not in self._stalled:
                pipe.target.shutdown(socket.SHUT_WR)
                pipe.ended = "told"
        except BlockingIOError:
            return
        except OSError:
            self._close(pipe)
            return
        self._reap(pipe)

    def _read(self, pipe):
        data = pipe.source.recv(CHUNK)
        if not data:
            pipe.ended = True
            return
        if pipe.direction == "up" and not pipe.forwarded and data.startswith(CANCEL_REQUEST):
            pipe.cancels = True
            self.held += self._holding_cancels
        due = time.monotonic() + self.delay
        piece = self.piece
        for at in range(0, len(data), piece):
            pipe.queue.append((due, data[at:at + piece]))
        pipe.waiting += len(data)

    def _write(self, pipe):
        due, data = pipe.queue.popleft()
        sent = 0
        try:
            sent = pipe.target.send(data)
        finally:
            if sent < len(data):
                pipe.queue.appendleft((due, data[sent:]))
            pipe.waiting -= sent
            pipe.forwarded += sent

    def _reap(self, pipe):
        """Both directions have ended: the connection is over."""
        pair = [p for p in self._pipes if p.source in (pipe.source, pipe.target)]
        if all(p.ended == "told" for p in pair):
            self._close(pipe)

    def _close(self, pipe):
        self.delivered += any(p.cancels for p in self._pipes if p.source in (pipe.source, pipe.target))
        self._pipes = [p for p in self._pipes if p.source not in (pipe.source, pipe.target)]
        pipe.source.close()
        pipe.target.close()

    def _cut_all(self):
        for pipe in self._pipes:
            if pipe.direction == "up":
                self._reset(pipe.source)
                self._reset(pipe.target)
        self._pipes = []
        self._cut = False
        self._cut_done.set()

    @staticmethod
    def _reset(sock):
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        sock.close()
