"""Runs stages: starts servers, fills them, measures in interleaved rounds, writes down each as it is done."""
import os, shutil, sys, time

import meter
from load import Driver
from plan import KEY_BYTES
from processes import Processes, Trouble

# A latency at a fixed rate is of its rarest requests; it is measured so many times as long.
FIXED_RATE_FACTOR = 2
# When the disk has not changed by more than this for so long, it has settled.
SETTLED_BYTES, SETTLED_S, SETTLED_S_MAX = 1 << 20, 3, 60
# A log may take somewhat longer than it is told until it rests.
REST_FACTOR = 2
# What data takes on disk at the most while it is compacted, in parts of its size.
DISK_FACTOR = 2.5


class Runner:
    def __init__(self, options, results):
        self.options, self.results = options, results
        self.driver = Driver(options.binary)
        self.begun = time.monotonic()

    def run(self, stages):
        for stage in stages:
            if all(self.results.rounds(stage.name, test.name) >= self.options.rounds for test in stage.tests):
                self.say(f"{stage.name}: measured before")
                continue
            why = self.no_room(stage)
            if why:
                self.say(f"{stage.name}: left out, {why}")
                continue
            with Processes(self.options.directory) as processes:
                self.run_stage(stage, processes)

    def no_room(self, stage):
        """Whether the disk or memory is too small, in words."""
        data = stage.keys * (stage.size + KEY_BYTES)
        servers = stage.servers()
        disk = sum(data * DISK_FACTOR * getattr(server, "copies", 3)
                   for server in servers if getattr(server, "log", True))
        free = shutil.disk_usage(self.options.directory or "/tmp").free
        if disk > free:
            return f"{disk / 1e9:.0f} GB of disk may be needed, {free / 1e9:.0f} are free (--directory)"
        memory = 0 if self.options.memory else sum(data * getattr(server, "copies", 2) for server in servers)
        free = os.sysconf("SC_AVPHYS_PAGES") * meter.PAGE + page_cache()
        if memory > free:
            return f"{memory / 1e9:.0f} GB of memory are needed, {free / 1e9:.0f} are free (--memory bounds ours)"
        return None

    def run_stage(self, stage, processes):
        for server in stage.servers():
            self.say(f"{stage.name}: starting {server.label}")
            server.start(processes)
        for server in stage.servers():
            self.fill(stage, server)
        for number in range(self.options.rounds):
            for test in stage.tests:
                if self.results.rounds(stage.name, test.name) <= number:
                    self.round(stage, test, number)

    def fill(self, stage, server):
        subject = next(subject for subject in stage.subjects if subject.server is server)
        self.say(f"{stage.name}: filling {server.label} with {stage.keys:,} keys")
        memory, disk = meter.resident_bytes(server.pids()), meter.disk_bytes(server.directory)
        begun = time.monotonic()
        self.driver.fill(subject, stage.keys, stage.size)
        took = time.monotonic() - begun
        if stage.settles:
            self.settle(server)
        resident = meter.resident_bytes(server.pids())
        if stage.rest_s and server.wears_in:
            self.settle(server, REST_FACTOR * stage.rest_s)
        self.results.add(
            kind="storage", stage=stage.name, server=server.key, label=subject.label, keys=stage.keys, size=stage.size,
            fill_s=took, memory_per_key=(resident - memory) / stage.keys, memory=resident,
            disk_per_key=(meter.disk_bytes(server.directory) - disk) / stage.keys)
        if server.wears_in:
            self.say(f"{stage.name}: going round the log of {server.label}")
            self.driver.wear_in(subject, stage.keys, stage.size)

    def settle(self, server, rest_s=0):
        """Waits until the log rests, if it does, and compaction has done its work."""
        end = time.monotonic() + rest_s + SETTLED_S_MAX
        since, before = time.monotonic(), meter.disk_bytes(server.directory)
        while time.monotonic() < end and time.monotonic() - since < rest_s + SETTLED_S:
            time.sleep(0.5)
            now = meter.disk_bytes(server.directory)
            if abs(now - before) > SETTLED_BYTES:
                since, before = time.monotonic(), now

    def round(self, stage, test, number):
        subjects = [subject for key in test.subjects for subject in stage.subjects if subject.key == key]
        seen = {}
        # There and back, so that what drifts meanwhile does not fall on one subject.
        for subject in subjects if number % 2 == 0 else reversed(subjects):
            rate, seconds = None, self.options.seconds
            if test.load:
                most = self.results.median(stage.name, test.load_of, test.load_subject or subject.key, "ops_s")
                if not most:
                    continue
                rate, seconds = most * test.load, seconds * FIXED_RATE_FACTOR
            figures = self.driver.measure(subject, test, stage.keys, stage.size, seconds, rate)
            seen[subject.key] = {"label": subject.label, **figures}
            self.say(f"{stage.name}: round {number + 1} of {self.options.rounds}, {test.name}, {subject.label}: "
                     f"{figures['cpu_us']:.1f} us/op, {figures['ops_s']:,.0f} op/s")
        self.results.add(kind="round", stage=stage.name, test=test.name, round=number, at=stage.at, subjects=seen)

    def say(self, text):
        took = int(time.monotonic() - self.begun)
        print(f"{took // 60:3}:{took % 60:02}  {text}", file=sys.stderr, flush=True)


def page_cache():
    """Memory of files that is given back when it is needed, in bytes."""
    with open("/proc/meminfo") as lines:
        sizes = {line.split(":")[0]: int(line.split()[1]) * 1024 for line in lines}
    return max(0, sizes["MemAvailable"] - sizes["MemFree"])
