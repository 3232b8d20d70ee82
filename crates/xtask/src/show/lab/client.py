"""Clients of redis-py that write and read until their input ends, and tell what they see.

usage: client.py NAME MODE WORKERS HOST:PORT...

A byte of input sends all workers back to the nodes that they began with.

MODE list: one plain client a worker, with a list of nodes. The library, which knows one node only, is told not to try
that one again by itself, so that every failure is seen; on a failure the worker goes to the next node. MODE cluster: one cluster client for all workers,
as the library makes it. MODE updates: as list, and each worker also counts (INCR), takes names (SET NX), appends
and puts into a cart in a namespace that keeps siblings (MOIM.PUT with the context of the last put), all under keys of
its own, so that it knows what every reply must be if each of its commands is done once.

MODE strict: as list, in the namespace `strict`, where nobody stands in for an owner. Cut off from owners these clients
wait and see refusals, which are no failures; what they read is judged like everything.

A line for each event: kind, milliseconds since 1970, worker, key, words. Kinds: `ack` (a write was acknowledged), `read`
(a value was read that had been acknowledged), `lost` (it was not there), `did` (a command that reads and writes said what
it must), `wrong` (it said something else), `fail` (a command failed), `moved` (no connection could be made, so nothing
was sent, and the next node is tried).
"""

import random
import sys
import threading
import time

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

NAME, MODE, WORKERS = sys.argv[1], sys.argv[2], int(sys.argv[3])
UPDATES = MODE == "updates"
NAMESPACE = "strict" if MODE == "strict" else 0
MODE = "list" if UPDATES or NAMESPACE else MODE
NODES = [(place.rsplit(":", 1)[0], int(place.rsplit(":", 1)[1])) for place in sys.argv[4:]]
VALUE_BYTES = 2048
PACE_S = 0.01
TIMEOUT_S = 1.0

sys.stdout.reconfigure(line_buffering=True)
done = threading.Event()
calls_home = 0


def tell(kind, worker, key, words=""):
    words = " ".join(str(words).split())
    sys.stdout.write(f"{kind} {int(time.time() * 1000)} {worker} {key} {words}\n")


def value(key):
    return (f"{key};".encode() * (VALUE_BYTES // len(key)))[:VALUE_BYTES]


def to_node(node, namespace=0):
    host, port = NODES[node]
    return redis.Redis(
        host,
        port,
        db=namespace,
        retry=Retry(NoBackoff(), 0),
        socket_timeout=TIMEOUT_S,
        socket_connect_timeout=TIMEOUT_S,
    )


def to_cluster():
    nodes = [redis.cluster.ClusterNode(host, port) for host, port in NODES]
    return redis.RedisCluster(startup_nodes=nodes)


def is_unsent(error):
    words = str(error)
    return " connecting to " in words or words.startswith("Timeout connecting")


class Worker:
    def __init__(self, number):
        self.number = number
        self.home = number % len(NODES)
        self.node = self.home
        self.calls = 0
        self.client = None
        self.carts = None
        self.rounds = 0
        self.context = None

    def leave(self):
        for client in (self.client, self.carts):
            if client is not None:
                client.close()
        self.client = self.carts = None

    def go_home(self):
        if self.calls == calls_home or MODE != "list":
            return
        self.calls = calls_home
        if self.node != self.home:
            self.leave()
        self.node = self.home

    def attempt(self, key, command):
        """What the command gives, once it succeeds; None when it is time to end."""
        while not done.is_set():
            try:
                if self.client is None:
                    self.client = to_node(self.node, NAMESPACE) if MODE == "list" else to_cluster()
                return command(self.client)
            except (redis.RedisError, OSError) as error:
                where = f"node {self.node + 1}: " if MODE == "list" else ""
                kind = "moved" if is_unsent(error) or NAMESPACE else "fail"
                tell(kind, self.number, key, f"{where}{type(error).__name__}: {error}")
                if MODE == "list":
                    self.leave()
                    self.node = (self.node + 1) % len(NODES)
                time.sleep(PACE_S)
        return None

    def run(self):
        written = []
        while not done.is_set():
            self.go_home()
            key = f"{NAME}:{self.number}:{len(written)}"
            if self.attempt(key, lambda client: client.set(key, value(key))):
                tell("ack", self.number, key)
                written.append(key)
            if written:
                self.look(random.choice(written))
            if UPDATES:
                self.update()
            time.sleep(PACE_S)

    def update(self):
        """One of each; the n-th round of this worker."""
        self.rounds += 1
        own = f"{NAME}:{self.number}"
        self.expect(f"count:{own}", lambda client: client.incr(f"count:{own}"), self.rounds)
        name = f"name:{own}:{self.rounds}"
        self.expect(name, lambda client: client.set(name, own, nx=True), True)
        self.expect(f"text:{own}", lambda client: client.append(f"text:{own}", "word"), 4 * self.rounds)
        self.expect(f"cart:{own}", lambda _: self.put(f"cart:{own}"), [str(self.rounds).encode()])

    def put(self, key):
        """Replaces the cart by its next version, and reads it: all siblings."""
        if self.carts is None:
            self.carts = to_node(self.node, "carts")
        known = [] if self.context is None else ["CONTEXT", self.context]
        self.context = self.carts.execute_command("MOIM.PUT", key, str(self.rounds), *known)
        _, *siblings = self.carts.execute_command("MOIM.GET", key)
        return [sibling[0] for sibling in siblings]

    def expect(self, key, command, wanted):
        found = self.attempt(key, lambda client: (command(client),))
        if found is not None:
            what = "did" if found[0] == wanted else "wrong"
            tell(what, self.number, key, f"{found[0]!r}, not {wanted!r}" if what == "wrong" else "")

    def look(self, key):
        # A missing value is not None, which stands for the end.
        found = self.attempt(key, lambda client: client.get(key) or b"")
        if found is not None:
            tell("read" if found == value(key) else "lost", self.number, key, found[:40].decode() or "(nil)")


threads = [threading.Thread(target=Worker(number).run, daemon=True) for number in range(WORKERS)]
for thread in threads:
    thread.start()
while sys.stdin.read(1):
    calls_home += 1
done.set()
for thread in threads:
    thread.join(timeout=10)
sys.stdout.flush()
