"""Clients of redis-py that write and read until their input ends, and tell what they see.

usage: client.py NAME MODE WORKERS HOST:PORT...

A byte of input sends all workers back to the nodes that they began with.

MODE list: one plain client a worker, with a list of nodes. The library, which knows one node only, is told not to try
that one again by itself, so that every failure is seen; on a failure the worker goes to the next node. MODE cluster: one cluster client for all workers,
as the library makes it.

A line for each event: kind, milliseconds since 1970, worker, key, words. Kinds: `ack` (a write was acknowledged), `read`
(a value was read that had been acknowledged), `lost` (it was not there), `fail` (a command failed), `moved` (no
connection could be made, so nothing was sent, and the next node is tried).
"""

import random
import sys
import threading
import time

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

NAME, MODE, WORKERS = sys.argv[1], sys.argv[2], int(sys.argv[3])
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


def to_node(node):
    host, port = NODES[node]
    return redis.Redis(
        host, port, retry=Retry(NoBackoff(), 0), socket_timeout=TIMEOUT_S, socket_connect_timeout=TIMEOUT_S
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

    def go_home(self):
        if self.calls == calls_home or MODE != "list":
            return
        self.calls = calls_home
        if self.node != self.home and self.client is not None:
            self.client.close()
            self.client = None
        self.node = self.home

    def attempt(self, key, command):
        """What the command gives, once it succeeds; None when it is time to end."""
        while not done.is_set():
            try:
                if self.client is None:
                    self.client = to_node(self.node) if MODE == "list" else to_cluster()
                return command(self.client)
            except (redis.RedisError, OSError) as error:
                where = f"node {self.node + 1}: " if MODE == "list" else ""
                kind = "moved" if is_unsent(error) else "fail"
                tell(kind, self.number, key, f"{where}{type(error).__name__}: {error}")
                if MODE == "list":
                    self.client.close()
                    self.client = None
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
            time.sleep(PACE_S)

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
