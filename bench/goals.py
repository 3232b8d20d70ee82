"""The ratios that Moim is measured by, and what each must be, should be and could be.

CPU is that of all server processes, the three replicas of every key included, per operation. Figures of a ratio come
from the same rounds of the same run.
"""
import dataclasses

from plan import KEY_BYTES

STAGE = "figures"


@dataclasses.dataclass
class Goal:
    """`most`: whether the figure may be at most so much (otherwise: has to be at least)."""
    name: str
    figure: object
    must: float = None
    target: float = None
    stretch: float = None
    most: bool = True
    unit: str = ""

    def verdict(self, value):
        """The highest step that is reached."""
        if self.must is None:
            return ""
        for name in ("stretch", "target", "must"):
            bound = getattr(self, name)
            if (value <= bound) if self.most else (value >= bound):
                return f"{name} met"
        return "must missed"


def cpu(results, test, subject):
    return results.median(STAGE, test, subject, "cpu_us")


def ratio(upper, lower):
    return upper / lower if upper is not None and lower else None


def of_cpu(test, subject, peer, times=1, inverse=False):
    def figure(results):
        ours, theirs = cpu(results, test, subject), cpu(results, test, peer)
        if theirs is not None:
            theirs *= times
        return ratio(theirs, ours) if inverse else ratio(ours, theirs)
    return figure


def of_latency(test, subject, peer, kind, quantile, peer_test=None):
    return lambda results: ratio(results.median(STAGE, test, subject, kind, quantile),
                                 results.median(STAGE, peer_test or test, peer, kind, quantile))


def throughput(results):
    return ratio(results.median(STAGE, "mix P1", "moim", "ops_s"), results.median(STAGE, "mix P1", "redis", "ops_s"))


def memory(results):
    ours, theirs = (results.storage("memory", server) for server in ("moim-one", "redis"))
    return ratio(ours["memory_per_key"], theirs["memory_per_key"]) if ours and theirs else None


def disk(stage, subject, copies):
    def figure(results):
        ours = results.storage(stage, subject)
        return ours["disk_per_key"] / copies / (ours["size"] + KEY_BYTES) if ours else None
    return figure


def growth(prefix, least_factor, subject="moim"):
    """The highest cost of an operation in the largest stage of a sweep, in parts of that in the smallest."""
    def figure(results):
        stages = sorted((int(name.removeprefix(prefix)), name) for name in results.stages() if name.startswith(prefix))
        if len(stages) < 2 or stages[-1][0] < least_factor * stages[0][0]:
            return None
        small, large = (next(name for count, name in stages if count >= factor * stages[0][0])
                        for factor in (1, least_factor))
        ratios = [ratio(results.median(large, test, subject, "cpu_us"), results.median(small, test, subject, "cpu_us"))
                  for test in ("GET P1", "SET P1")]
        return max((value for value in ratios if value is not None), default=None)
    return figure


def apart(stage):
    """The highest cost of an operation in one cluster, in parts of that in clusters of three that are as many nodes."""
    def figure(results):
        ratios = [ratio(results.median(stage, test, "moim", "cpu_us"), results.median(stage, test, "apart", "cpu_us"))
                  for test in ("GET P1", "SET P1")]
        return max((value for value in ratios if value is not None), default=None)
    return figure


GOALS = [
    Goal("GET P1 / Redis GET", of_cpu("GET P1", "moim", "redis"), 3.0, 2.0, 1.7),
    Goal("SET P1 / Redis SET without a log", of_cpu("SET P1", "moim", "redis"), 4.5, 3.0, 2.3),
    Goal("the same, ours synced by interval", of_cpu("SET P1", "moim-interval", "redis")),
    Goal("SET P1 by interval / three Redis with AOF every second",
         of_cpu("SET P1", "moim-interval", "everysec", times=3), 1.0, 0.6, 0.45),
    Goal("mix 5:1 P1 / Redis", of_cpu("mix P1", "moim", "redis"), 3.0, 2.0, 1.6),
    Goal("GET P16 / Redis", of_cpu("GET P16", "moim", "redis"), 2.5, 1.5, 1.1),
    Goal("SET P16 / Redis", of_cpu("SET P16", "moim", "redis"), 6, 4, 3),
    Goal("mix P1, throughput / Redis", throughput, 0.35, 0.5, 0.65, most=False),
    Goal("SET P1 / Redis Cluster SET + WAIT 1", of_cpu("SET P1", "moim", "wait"), 1.2, 0.8, 0.65),
    Goal("etcd linearizable GET / quorum GET", of_cpu("GET P1", "moim", "etcd", inverse=True), 4, 7, 8, most=False),
    Goal("etcd PUT / synced SET", of_cpu("SET P1", "moim", "etcd", inverse=True), 4, 8, 10, most=False),
    Goal("p50 of reads, mix at 45 % of each one's load / Redis",
         of_latency("mix at 45 %", "moim", "redis", "reads", "p50_ms"), 8, 5, 4),
    Goal("p99 of SETs at 45 % of each one's load / Redis Cluster WAIT 1",
         of_latency("SET at 45 %", "moim", "wait", "writes", "p99_ms"), 1.5, 1.0, 0.7),
    Goal("p99 of SETs at the same rate, 45 % of the load of WAIT 1 / WAIT 1",
         of_latency("SET at 45 % of WAIT", "moim", "wait", "writes", "p99_ms")),
    Goal("user time of a quorum GET P1, all replicas",
         lambda results: results.median(STAGE, "GET P1", "moim", "user_us"), 10, 6, 4, unit=" us"),
    Goal("one node, N=R=W=1, GET P1 / Redis", of_cpu("GET P1", "moim-one", "redis"), 1.5, 1.15, 1.0),
    Goal("memory per 2 KB session of 100,000, one node / Redis", memory, 1.5, 1.2, 1.0),
    Goal("disk per 2 KB session at rest, half compressible / raw size", disk("memory", "moim-one", 1), 1.3, 0.8, 0.7),
    Goal("the same just after writing, three nodes, a copy", disk(STAGE, "moim", 3)),
    Goal("CPU as data grows 10 times", growth("keys-", 10), 1.3, 1.15, 1.05),
    Goal("the same of Redis, nothing on disk", growth("keys-", 10, "redis")),
    Goal("CPU as nodes go from 3 to 12", growth("nodes-", 4), 1.3, 1.15, 1.05),
    Goal("the same of Redis masters, which say nothing to each other", growth("nodes-", 4, "masters")),
    Goal("12 nodes in one cluster / in four clusters", apart("nodes-12"), 1.3, 1.15, 1.05),
]
