"""What Moim costs beside servers that people know, in one interleaved run.

Starts three nodes of Moim, one node, and what Debian has to compare with (Redis with nothing on disk, with its log
synced every second and always; a Redis Cluster of three masters and three replicas; etcd with three members), each on
loopback in a directory of its own that is removed at the end. All run at once; rounds of load visit them in turn.

CPU time of all server processes for each operation is the figure to trust: on a machine that others use too it moves by
10 % where throughput moves by 2x. Garage is not in Debian and so not here.

    make bench                                     about ten minutes on two cores
    make bench ARGS="--full"                       longer rounds, all sweeps: hours
    make bench ARGS="--sweep connections,sizes"    these sweeps as well
    make bench ARGS="--document"                   write the figures into docs/performance.md

Every round is kept in a file; interrupted, it goes on from there, until the program has changed.
"""
import argparse, os, shlex, signal, sys

import document, machine, report
from packages import provide
from plan import CLIENTS, SIZE, SWEEPS, Planner
from processes import Trouble
from results import Results
from runner import Runner

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
QUICK = {"rounds": 3, "seconds": 2.0, "keys": 50_000}
FULL = {"rounds": 5, "seconds": 10.0, "keys": 100_000}


def listed(allowed=None):
    def parse(text):
        names = [name for name in text.split(",") if name]
        for name in names:
            if allowed and name not in allowed:
                raise argparse.ArgumentTypeError(f"'{name}': one of {', '.join(allowed)} is expected")
        return names
    return parse


def parse(arguments):
    parser = argparse.ArgumentParser(prog="bench", description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("--binary", default=os.path.join(ROOT, "target/release/moim"))
    add("--engine", default="lsm")
    add("--full", action="store_true", help="five rounds of ten seconds, and every sweep")
    add("--rounds", type=int)
    add("--seconds", type=float, help="of each run")
    add("--keys", type=int, help="how many keys servers are filled with")
    add("--connections", type=int, default=CLIENTS, metavar="COUNT",
        help="at once, and in the sweep over nodes a third of it for each node")
    add("--sweep", type=listed(SWEEPS), default=[], metavar="NAME,…", help="also: " + ", ".join(SWEEPS))
    add("--only-sweeps", action="store_true", help="without the comparison")
    add("--key-counts", type=listed(), default=["100000", "1000000", "10000000"], metavar="COUNT,…",
        help="of the sweep over keys")
    add("--value-size", type=int, default=SIZE, metavar="BYTES", help="of values in the sweep over keys")
    add("--memory", type=int, default=0, metavar="BYTES",
        help="of each of our nodes in the sweep over keys, when it is less than the data")
    add("--without", type=listed(), default=[], metavar="NAME,…",
        help="servers to leave out: redis, everysec, always, redis-cluster, etcd, moim-one, moim-interval, masters")
    add("--directory", help="where servers keep their data meanwhile, instead of the system's temporary directory")
    add("--results", metavar="FILE", help="where rounds are kept")
    add("--fresh", action="store_true", help="forget rounds that were kept")
    add("--document", action="store_true", help="write docs/performance.md and its plots")
    options = parser.parse_args(arguments)
    for name, value in (FULL if options.full else QUICK).items():
        if getattr(options, name) is None:
            setattr(options, name, value)
    if options.full:
        options.sweep = SWEEPS
    options.key_counts = [int(count) for count in options.key_counts]
    return options


def results_of(options):
    """Rounds of the same program, measured in the same way, are one run."""
    size = "" if options.value_size == SIZE else f"-{options.value_size}b"
    clients = "" if options.connections == CLIENTS else f"-{options.connections}c"
    shape = f"{options.keys}-{options.seconds:g}s-{options.engine}{size}{clients}"
    path = options.results or os.path.join(
        os.path.dirname(os.path.dirname(os.path.abspath(options.binary))), "bench",
        f"{machine.fingerprint(options.binary)}-{shape}.jsonl")
    if options.fresh and os.path.exists(path):
        os.remove(path)
    return Results(path)


def command(arguments):
    """How to repeat it: without what `make` adds by itself."""
    own = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    for name in ("--binary", "--engine", "--results", "--directory"):
        own.add_argument(name)
    _, rest = own.parse_known_args(arguments)
    return " ".join(["make bench", *([f'ARGS="{shlex.join(rest)}"'] if rest else [])])


def main():
    options = parse(sys.argv[1:])
    # As an interrupt: servers are stopped on the way out.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    stages = Planner(options).stages()
    programs = {}
    for stage in stages:
        for server in stage.servers():
            programs.update(server.programs)
    provide(programs)
    results = results_of(options)
    print(f"bench: rounds are kept in {results.path}", file=sys.stderr)
    if not results.machine():
        results.add(kind="machine", facts=machine.facts(options, programs))
    Runner(options, results).run(stages)
    print(report.machine(results))
    print(report.whole(results))
    if options.document:
        print("written:", *document.write(results, command(sys.argv[1:]), os.path.join(ROOT, "docs")))


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        sys.exit("bench: interrupted; run again, it goes on where it was")
    except Trouble as trouble:
        sys.exit(f"bench: {trouble}")
