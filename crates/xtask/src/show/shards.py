"""Writes through a Redis Cluster client until told to end, then reads all of it back. Arguments: cluster ports."""

import sys
import threading
import time

from redis.backoff import ConstantBackoff
from redis.cluster import ClusterNode, RedisCluster
from redis.exceptions import RedisError
from redis.retry import Retry

WORKERS = 3
NODES = [ClusterNode("127.0.0.1", int(port)) for port in sys.argv[1:]]

ended = threading.Event()
acknowledged = [0] * WORKERS
failures = []


def value(worker, number):
    return (f"{worker}:{number};" * 400)[:2048].encode()


def client():
    retry = Retry(ConstantBackoff(0.05), 40)
    return RedisCluster(startup_nodes=NODES, retry=retry, socket_timeout=5)


def write(worker):
    nodes = client()
    while not ended.is_set():
        number = acknowledged[worker]
        try:
            nodes.set(f"cluster:{worker}:{number}", value(worker, number))
            acknowledged[worker] = number + 1
        except RedisError as error:
            failures.append((time.monotonic(), f"{type(error).__name__}: {error}"))
            time.sleep(0.02)


def verify():
    nodes = client()
    for worker, count in enumerate(acknowledged):
        for number in range(count):
            found = nodes.get(f"cluster:{worker}:{number}")
            assert found == value(worker, number), f"cluster:{worker}:{number}: {found!r}"


def main():
    found = {node.port for node in client().get_primaries()}
    print(f"redis-py finds masters at {sorted(found)}", flush=True)
    assert len(found) == len(NODES), f"{len(NODES)} masters are expected"
    threads = [threading.Thread(target=write, args=(worker,)) for worker in range(WORKERS)]
    for thread in threads:
        thread.start()
    sys.stdin.read()
    ended.set()
    for thread in threads:
        thread.join()
    assert all(acknowledged), f"a worker wrote nothing: {failures[-1:]}"
    span = failures[-1][0] - failures[0][0] if failures else 0
    print(f"{sum(acknowledged)} writes acknowledged, {len(failures)} failed after all retries, within {span:.1f} s")
    verify()
    print("all of them are read back")


main()
