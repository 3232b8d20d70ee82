"""One run of load on one server, and what it cost."""
import json, os, statistics, subprocess, time

import meter
from etcd_load import Loader
from processes import Trouble
from servers import Etcd

# Copies owed, flushes and compaction belong to the writes that caused them: a run ends when its servers have used less than
# this part of a core for so long, or it has waited long enough.
QUIET_PART, QUIET_S, QUIET_S_MAX = 0.1, 0.5, 10
WARM_UP_MS = 300
# Connecting takes its time as well.
WARM_UP_MS_PER_CONNECTION = 2
# A run in which more of the requests failed says nothing.
FAILED_SHARE_MAX = 0.001
FILL_CONNECTIONS = 24
# Runs of so many seconds until one makes files grow by less than this part.
WEAR_IN_CONNECTIONS, WEAR_IN_S, WEAR_IN_RUNS_MAX, WEAR_IN_GROWTH = 48, 2, 20, 0.05
COMPRESSIBLE_PERCENT = 50


class Driver:
    """Fills and loads servers. `binary` is moim, whose `bench` drives whatever speaks the Redis protocol."""

    def __init__(self, binary):
        self.binary = binary

    def fill(self, subject, keys, size):
        """Writes every key once."""
        server = subject.server
        if isinstance(server, Etcd):
            Loader(server.addresses, size, COMPRESSIBLE_PERCENT, False).fill(keys, FILL_CONNECTIONS)
        else:
            load = {"keys": keys, "value-size": size, "connections": FILL_CONNECTIONS}
            for addresses in server.parts():
                self.bench(subject, load, ["--fill", "--duration", "0s"], timeout=7200, addresses=addresses)

    def wear_in(self, subject, keys, size):
        """Rewrites keys until the server's files no longer grow: a log of bounded size has then gone round once."""
        load = {"keys": keys, "value-size": size, "connections": WEAR_IN_CONNECTIONS, "pipeline": 16,
                "reads": 0, "writes": 1}
        directory = subject.server.directory
        for _ in range(WEAR_IN_RUNS_MAX):
            before = meter.disk_bytes(directory)
            self.bench(subject, load, ["--duration", f"{WEAR_IN_S}s"], timeout=WEAR_IN_S + 120)
            if meter.disk_bytes(directory) - before < WEAR_IN_GROWTH * before:
                break
        await_quiet(subject.server)

    def measure(self, subject, test, keys, size, seconds, rate=None):
        """Returns the figures of one run."""
        server = subject.server
        # What the kernel has not written yet of others' files would be written beside this run.
        os.sync()
        before = meter.cpu_us(server.pids())
        if isinstance(server, Etcd):
            figures = self.load_etcd(subject, test, keys, size, seconds)
        else:
            load = {"keys": keys, "value-size": size, "connections": test.connections, "pipeline": test.pipeline,
                    "reads": test.reads, "writes": test.writes}
            if rate:
                load["rate"] = max(1, int(rate))
            warm_up_ms = WARM_UP_MS + WARM_UP_MS_PER_CONNECTION * test.connections
            more = ["--warm-up", f"{warm_up_ms}ms", "--duration", f"{int(seconds * 1000)}ms", "--json", "-"]
            figures = of_document(json.loads(self.bench(subject, load, more, timeout=seconds + 120)))
        await_quiet(server)
        after = meter.cpu_us(server.pids())
        answered = figures.pop("answered")
        if not answered or figures["failed"] > FAILED_SHARE_MAX * answered:
            raise Trouble(f"{subject.label}, {test.name}: {answered} answered, failed: {figures['errors']}")
        user, system = ((after[at] - before[at]) / answered for at in (0, 1))
        return {"cpu_us": user + system, "user_us": user, "rate": rate, **figures}

    def bench(self, subject, load, more, timeout, addresses=None):
        command = [self.binary, "bench", "--redis", ",".join(addresses or subject.server.addresses), "--zipf", "0",
                   "--compressible", str(COMPRESSIBLE_PERCENT), *subject.flags, *more]
        for flag, value in load.items():
            command += [f"--{flag}", str(value)]
        ended = subprocess.run(command, capture_output=True, text=True, timeout=timeout)
        if ended.returncode:
            raise Trouble(f"{' '.join(command)} failed with {ended.returncode}:\n{ended.stderr[-2000:]}")
        return ended.stdout

    def load_etcd(self, subject, test, keys, size, seconds):
        loader = Loader(subject.server.addresses, size, COMPRESSIBLE_PERCENT, "serializable" in subject.flags)
        kind = "Range" if test.reads else "Put"
        answered, took, latencies, missed = loader.measure(kind, keys, test.connections, seconds)
        at = statistics.quantiles(latencies, n=1000, method="inclusive")
        part = {"p50_ms": at[499], "p99_ms": at[989], "p999_ms": at[998]}
        return {"answered": answered, "ops_s": answered / took, "missed": missed, "failed": 0, "errors": {},
                "reads" if test.reads else "writes": part}


def await_quiet(server):
    """Waits until the server has nothing more to do."""
    end = time.monotonic() + QUIET_S_MAX
    since, before = time.monotonic(), sum(meter.cpu_us(server.pids()))
    while time.monotonic() < end:
        time.sleep(QUIET_S)
        now, used = time.monotonic(), sum(meter.cpu_us(server.pids()))
        if used - before < QUIET_PART * (now - since) * 1e6:
            break
        since, before = now, used


def of_document(document):
    """The figures that are kept of what `moim bench --json` says."""
    kept = ("p50_ms", "p99_ms", "p999_ms")
    figures = {"answered": document["requests_answered"], "ops_s": document["requests_per_second"],
               "missed": document["misses"], "failed": sum(document["errors"].values()),
               "errors": document["errors"]}
    for kind in ("reads", "writes"):
        if document[kind]["count"]:
            figures[kind] = {name: document[kind][name] for name in kept}
    return figures
