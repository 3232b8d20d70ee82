"""What is measured: stages (servers with data in them), and in each of them tests of subjects.

A *subject* is a server together with how it is asked: a Redis Cluster with and without `WAIT` are two subjects on the
same processes. Every test runs in rounds, each of which visits all of its subjects.
"""
import dataclasses

from servers import Etcd, Moim, Redis, RedisCluster

CLIENTS = 48
SIZE = 2048
KEY_BYTES = 20
# Ours have room for all of the data in memory, as Redis has, unless a stage says otherwise, and never less than the
# default of the configuration. Objects get 5/16 of it.
OBJECT_OVERHEAD_BYTES = 1000
MEMORY_BYTES_MIN = 1 << 30
# In the sweep over keys, where millions are to fit: what an object takes in memory beside its value, and what else a
# node needs.
CACHED_OVERHEAD_BYTES = 500
BESIDE_CACHE_BYTES = 1 << 30
# What a session takes in memory shows once a program's own size does not.
MEMORY_KEYS_MIN = 100_000
# And what it takes on disk, once its log rests: after five minutes, unless told otherwise.
REST_S = 10


@dataclasses.dataclass
class Subject:
    key: str
    label: str
    server: object
    flags: list = dataclasses.field(default_factory=list)

    def as_cluster(self):
        """The same, asked at its cluster ports."""
        self.server.is_cluster = True
        return dataclasses.replace(self, flags=["--cluster"])


@dataclasses.dataclass
class Test:
    """`load`: the share of what the subject has answered at most (in the test named) that is asked for in each second.
    """
    name: str
    reads: int
    writes: int
    subjects: list
    pipeline: int = 1
    connections: int = CLIENTS
    load: float = None
    load_of: str = None
    # Whose throughput: the subject's own unless another is named.
    load_subject: str = None


@dataclasses.dataclass
class Stage:
    name: str
    keys: int
    size: int
    subjects: list
    tests: list
    # What distinguishes this stage from the others of a sweep.
    at: float = None
    settles: bool = False
    # Our logs rest after so long without writes, and what they hold is written out compressed; 0: not meanwhile.
    rest_s: float = 0

    def servers(self):
        found = []
        for subject in self.subjects:
            if subject.server not in found:
                found.append(subject.server)
        return found


MIXES = {"GET": (1, 0), "SET": (0, 1), "mix": (5, 1)}


class Planner:
    """Makes stages of what was asked for on the command line."""

    def __init__(self, options):
        self.options = options

    def moim(self, key, label, keys, size=SIZE, nodes=3, durability="sync", clusters=1, **settings):
        memory = max(MEMORY_BYTES_MIN, keys * (size + OBJECT_OVERHEAD_BYTES) * 16 // 5)
        settings = {"NODE_MEMORY_BYTES": memory, "NODE_ENGINE": self.options.engine, **settings}
        if durability != "sync":
            settings["NODE_DURABILITY"] = durability
        return Subject(key, label, Moim(key, label, self.options.binary, nodes, settings, clusters))

    def stages(self):
        made = [] if self.options.only_sweeps else [self.figures(), self.memory()]
        for sweep in self.options.sweep:
            made += getattr(self, f"sweep_{sweep}")()
        return [stage for stage in map(self.without, made) if stage.subjects]

    def without(self, stage):
        """Leaves out what --without names."""
        gone = self.options.without
        stage.subjects = [subject for subject in stage.subjects if subject.server.key not in gone]
        here = {subject.key for subject in stage.subjects}
        for test in stage.tests:
            test.subjects = [key for key in test.subjects if key in here]
        stage.tests = [test for test in stage.tests if test.subjects]
        return stage

    def figures(self):
        keys = self.options.keys
        cluster = RedisCluster("redis-cluster", "Redis Cluster 3+3")
        etcd = Etcd("etcd", "etcd, 3 members")
        subjects = [
            Subject("redis", "Redis, nothing on disk", Redis("redis", "Redis")),
            Subject("everysec", "Redis, AOF every second", Redis("everysec", "Redis AOF", "everysec")),
            Subject("always", "Redis, AOF always", Redis("always", "Redis AOF", "always")),
            Subject("redis-cluster", "Redis Cluster 3+3", cluster, ["--cluster"]),
            Subject("wait", "Redis Cluster 3+3, WAIT 1", cluster, ["--cluster", "--wait", "1"]),
            Subject("etcd", "etcd, 3 members", etcd),
            Subject("etcd-serializable", "etcd, 3 members, serializable", etcd, ["serializable"]),
            self.moim("moim", "Moim, 3 nodes, sync", keys),
            self.moim("moim-interval", "Moim, 3 nodes, interval", keys, durability="interval"),
            self.moim("moim-one", "Moim, one node, N=1", keys, nodes=1, CLUSTER_N=1),
        ]
        own = {"load": 0.45, "connections": self.options.connections}
        tests = [
            self.load_test("GET", ["redis", "redis-cluster", "etcd", "etcd-serializable", "moim", "moim-one"]),
            self.load_test("SET", ["redis", "everysec", "always", "redis-cluster", "wait", "etcd", "moim",
                                   "moim-interval", "moim-one"]),
            self.load_test("mix", ["redis", "redis-cluster", "moim", "moim-interval"]),
            self.load_test("GET", ["redis", "redis-cluster", "moim", "moim-one"], 16),
            self.load_test("SET", ["redis", "everysec", "always", "redis-cluster", "wait", "moim", "moim-interval",
                                   "moim-one"], 16),
            self.load_test("mix", ["redis", "redis-cluster", "moim", "moim-interval"], 16),
            Test("mix at 45 %", 5, 1, ["redis", "redis-cluster", "moim", "moim-interval"], load_of="mix P1", **own),
            Test("SET at 45 %", 0, 1, ["redis", "wait", "moim", "moim-interval"], load_of="SET P1", **own),
            Test("SET at 45 % of WAIT", 0, 1, ["wait", "moim", "moim-interval"], load_of="SET P1",
                 load_subject="wait", **own),
        ]
        return Stage("figures", keys, SIZE, subjects, tests, settles=True)

    def memory(self):
        """One node and Redis, filled with many sessions that then rest."""
        keys = max(self.options.keys, MEMORY_KEYS_MIN)
        settings = {"CLUSTER_N": 1, "NODE_LOG_REST_MS": REST_S * 1000}
        subjects = [Subject("redis", "Redis, nothing on disk", Redis("redis", "Redis")),
                    self.moim("moim-one", "Moim, one node, N=1", keys, nodes=1, **settings)]
        return Stage("memory", keys, SIZE, subjects, [self.load_test("GET", ["redis", "moim-one"])], settles=True,
                     rest_s=REST_S)

    def load_test(self, kind, subjects, pipeline=1, connections=None, name=None):
        reads, writes = MIXES[kind]
        connections = connections or self.options.connections
        return Test(name or f"{kind} P{pipeline}", reads, writes, subjects, pipeline, connections)

    def pair(self, keys, size=SIZE):
        return [Subject("redis", "Redis, nothing on disk", Redis("redis", "Redis")),
                self.moim("moim", "Moim, 3 nodes, sync", keys, size)]

    def sweep_connections(self):
        keys = self.options.keys
        tests = [self.load_test(kind, ["redis", "moim"], connections=count, name=f"{kind} C{count}")
                 for count in (12, 48, 120, 480) for kind in ("GET", "SET")]
        return [Stage("connections", keys, SIZE, self.pair(keys), tests)]

    def sweep_pipeline(self):
        keys = self.options.keys
        tests = [self.load_test(kind, ["redis", "moim"], depth) for depth in (1, 4, 16, 64) for kind in ("GET", "SET")]
        return [Stage("pipeline", keys, SIZE, self.pair(keys), tests)]

    def sweep_sizes(self):
        keys = self.options.keys
        return [Stage(f"size-{size}", keys, size, self.pair(keys, size),
                      [self.load_test(kind, ["redis", "moim"]) for kind in ("GET", "SET")], at=size)
                for size in (64, 512, 2048, 8192)]

    def sweep_durability(self):
        keys = self.options.keys
        kinds = ("sync", "interval", "os")
        subjects = [self.moim(f"moim-{kind}", f"Moim, {kind}", keys, durability=kind) for kind in kinds]
        names = [subject.key for subject in subjects]
        return [Stage("durability", keys, SIZE, subjects,
                      [self.load_test("SET", names), self.load_test("SET", names, 16), self.load_test("mix", names)])]

    def sweep_keys(self):
        """Data in the object cache, and with --memory more data than it. What more data costs because the processor's caches
        do not grow with it is the machine's: beside it is a Redis with as many keys.
        """
        made = []
        size = self.options.value_size
        for keys in self.options.key_counts:
            cache = keys * (size + CACHED_OVERHEAD_BYTES)
            settings = {"NODE_CACHE_BYTES": cache, "NODE_MEMORY_BYTES": cache + BESIDE_CACHE_BYTES}
            if self.options.memory:
                settings = {"NODE_MEMORY_BYTES": self.options.memory}
            subject = self.moim("moim", "Moim, 3 nodes, sync", keys, size, **settings)
            tests = [self.load_test("GET", ["redis", "moim"]), self.load_test("SET", ["redis", "moim"]),
                     Test("mix at 45 %", 5, 1, ["moim"], load=0.45, load_of="GET P1")]
            redis = Subject("redis", "Redis, nothing on disk", Redis("redis", "Redis"))
            made.append(Stage(f"keys-{keys}", keys, size, [redis, subject], tests, at=keys, settles=True))
        return made

    def sweep_nodes(self):
        """As many connections for each node, however many nodes: a cluster grows because its load does. Keys are sent to
        an owner, as clients of a Redis Cluster do: of three nodes each is one, of twelve a quarter. What more processes
        on as many processors cost is the machine's: beside it are as many nodes in clusters of three each, of which the
        client asks any node, and as many Redis masters, which say nothing to each other.
        """
        return [self.of_nodes(nodes) for nodes in (3, 6, 9, 12)]

    def of_nodes(self, nodes):
        keys = self.options.keys
        masters = RedisCluster("masters", f"Redis Cluster, {nodes} masters", masters=nodes, replicas=0)
        subjects = [Subject("masters", masters.label, masters, ["--cluster"]),
                    self.moim("moim", f"Moim, {nodes} nodes, sync", keys, nodes=nodes).as_cluster()]
        if nodes > 3:
            label = f"Moim, {nodes // 3} clusters of 3 nodes, sync"
            subjects.append(self.moim("apart", label, keys, nodes=nodes, clusters=nodes // 3))
        connections = self.options.connections // 3 * nodes
        names = [subject.key for subject in subjects]
        tests = [self.load_test(kind, names, pipeline, connections)
                 for pipeline in (1, 16) for kind in ("GET", "SET")]
        return Stage(f"nodes-{nodes}", keys, SIZE, subjects, tests, at=nodes)


SWEEPS = [name.removeprefix("sweep_") for name in dir(Planner) if name.startswith("sweep_")]
