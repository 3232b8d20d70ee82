"""Load on etcd through its own gRPC interface: a closed loop of one call at a time on each connection.

The JSON gateway would cost the server CPU that no client in earnest pays. This client is slow itself; it keeps three
members busy on two cores, and only CPU time of servers is compared.
"""
import random, selectors, time

import grpc

KV = "/etcdserverpb.KV/"
SERIALIZABLE = b"\x38\x01"
POOL_BYTES = 1 << 20


class Loader:
    """`serializable`: reads from the member asked, which may be behind; otherwise linearizable."""

    def __init__(self, addresses, size, compressible, serializable):
        self.addresses, self.serializable = addresses, serializable
        same = size * compressible // 100
        self.random_bytes, self.same = size - same, b"-" * same
        self.size = size
        self.pool = random.randbytes(POOL_BYTES + size)

    def put(self, key):
        at = random.randrange(POOL_BYTES)
        value = self.pool[at:at + self.random_bytes] + self.same
        return grpc.field(1, key.encode()) + grpc.field(2, value)

    def get(self, key):
        return grpc.field(1, key.encode()) + (SERIALIZABLE if self.serializable else b"")

    def fill(self, keys, connections):
        numbers = iter(range(keys))
        self.drive("Put", connections, lambda: next((self.put(name(at)) for at in numbers), None))

    def measure(self, kind, keys, connections, seconds):
        """Returns (requests answered, seconds, latencies in ms, reads that found nothing)."""
        end = time.monotonic() + seconds
        make = self.put if kind == "Put" else self.get
        draw = lambda: make(name(random.randrange(keys))) if time.monotonic() < end else None
        begun = time.monotonic()
        latencies, missed = self.drive(kind, connections, draw)
        return len(latencies), time.monotonic() - begun, latencies, missed

    def drive(self, kind, connections, draw):
        """Calls until `draw()` gives None."""
        ready = selectors.DefaultSelector()
        for at in range(connections):
            host, port = self.addresses[at % len(self.addresses)].rsplit(":", 1)
            connection = grpc.Connection(host, int(port), KV + kind)
            ready.register(connection, selectors.EVENT_READ)
            self.next(ready, connection, draw)
        latencies, missed = [], 0
        while ready.get_map():
            for key, _ in ready.select():
                answer = key.fileobj.receive()
                if answer is None:
                    continue
                latencies.append((time.monotonic() - key.fileobj.sent) * 1e3)
                missed += kind == "Range" and len(answer) < self.size
                self.next(ready, key.fileobj, draw)
        return latencies, missed

    def next(self, ready, connection, draw):
        call = draw()
        if call is None:
            ready.unregister(connection)
            connection.socket.close()
        else:
            connection.sent = time.monotonic()
            connection.call(call)


def name(number):
    return f"session:{number:012}"
