"""What applications do with redis-py, against the plain ports given as arguments."""

import asyncio
import sys
import time

import redis
import redis.asyncio

PORTS = [int(port) for port in sys.argv[1:]]
VALUE = b"\x00\xff\r\n" + b"s" * 2044


def equal(found, expected, what):
    assert found == expected, f"{what}: {found!r} instead of {expected!r}"


def refuses(do, word, what):
    try:
        found = do()
    except redis.ResponseError as error:
        assert word in str(error), f"{what}: {error} instead of {word}"
    else:
        raise AssertionError(f"{what}: {found!r} instead of an error")


def strings(r, other):
    equal(r.set("k", VALUE), True, "SET")
    equal(other.get("k"), VALUE, "GET through another node")
    equal(r.get("nothing"), None, "GET of nothing")
    equal(r.set("nx", 1, nx=True), True, "SET NX of nothing")
    equal(other.set("nx", 2, nx=True), None, "SET NX of something")
    equal(other.set("xx", 1, xx=True), None, "SET XX of nothing")
    equal(r.set("nx", 3, xx=True), True, "SET XX of something")
    equal(r.set("nx", 4, get=True), b"3", "SET GET")
    equal(r.mset({f"m:{i}": i for i in range(50)}), True, "MSET over many slots")
    keys = [f"m:{i}" for i in range(51)]
    equal(other.mget(keys), [b"%d" % i for i in range(50)] + [None], "MGET over many slots")
    equal(r.getdel("m:0"), b"0", "GETDEL")
    equal(r.getdel("m:0"), None, "GETDEL of nothing")
    equal(other.exists("m:0", "m:1", "m:2"), 2, "EXISTS")
    equal(r.delete("m:1", "m:2", "nothing"), 2, "DEL")
    equal(r.append("text", "ab"), 2, "APPEND")
    equal(other.append("text", "cd"), 4, "APPEND through another node")
    equal((r.strlen("text"), r.getrange("text", 1, 2)), (4, b"bc"), "STRLEN, GETRANGE")


def numbers(r, other):
    equal([(r, other)[i % 2].incr("n") for i in range(10)], list(range(1, 11)), "INCR")
    equal((r.incrby("n", 5), r.decr("n"), other.get("n")), (15, 14, b"14"), "INCRBY, DECR")
    equal(r.incrbyfloat("f", 1.5), 1.5, "INCRBYFLOAT")
    r.set("word", "x")
    refuses(lambda: r.incr("word"), "not an integer", "INCR of a word")


def expiry(r, other):
    r.set("ex", 1, ex=100)
    assert 98 <= other.ttl("ex") <= 100, f"TTL: {other.ttl('ex')}"
    r.set("px", 1, px=300)
    assert 0 < other.pttl("px") <= 300, f"PTTL: {other.pttl('px')}"
    equal((r.ttl("k"), r.ttl("nothing")), (-1, -2), "TTL without an end, TTL of nothing")
    equal((r.expire("k", 50), other.expire("nothing", 50)), (True, False), "EXPIRE")
    assert 48 <= other.ttl("k") <= 50, f"TTL after EXPIRE: {other.ttl('k')}"
    equal((r.persist("k"), other.ttl("k")), (True, -1), "PERSIST")
    equal((r.getex("k", ex=40), other.ttl("k") > 0), (VALUE, True), "GETEX")
    time.sleep(0.35)
    equal((r.get("px"), other.get("px")), (None, None), "GET after the end")


def pipelines(r, other):
    for transaction in (False, True):
        pipe = r.pipeline(transaction=transaction)
        for i in range(100):
            pipe.set(f"p:{i}", i)
        for i in range(100):
            pipe.get(f"p:{i}")
        expected = [True] * 100 + [b"%d" % i for i in range(100)]
        equal(pipe.execute(), expected, f"pipeline, transaction={transaction}")
        pipe = other.pipeline(transaction=transaction)
        pipe.set("word", "x").incr("word").get("word")
        replies = pipe.execute(raise_on_error=False)
        equal((replies[0], replies[2]), (True, b"x"), "a pipeline goes on after an error")
        assert isinstance(replies[1], redis.ResponseError), f"INCR of a word: {replies[1]!r}"


def listing(r, other):
    for key in r.scan_iter(count=100):
        r.delete(key)
    equal(list(other.scan_iter()), [], "SCAN of nothing")
    wanted = {b"scan:%d" % i for i in range(500)}
    for key in wanted:
        r.set(key, 1)
    r.set("other", 1)
    found = list(other.scan_iter(match="scan:*", count=50))
    equal((len(found), set(found)), (500, wanted), "SCAN MATCH: all, and each once")
    equal(other.dbsize(), 501, "DBSIZE")


def locks(r, other):
    lock = r.lock("lock", timeout=10, blocking_timeout=1)
    equal(lock.acquire(), True, "a lock")
    taken = other.lock("lock", timeout=10, blocking_timeout=0.2)
    equal(taken.acquire(), False, "the same lock again")
    equal(lock.extend(5), True, "extending a lock")
    lock.release()
    equal(taken.acquire(), True, "the lock once it is released")
    taken.release()


def about(r):
    info = r.info()
    equal((info["role"], info["maxmemory_policy"]), ("master", "noeviction"), "INFO")
    assert info["redis_version"], "INFO has no redis_version"
    equal(r.config_get("maxmemory-policy"), {"maxmemory-policy": "noeviction"}, "CONFIG GET")
    equal((r.ping(), r.echo("x")), (True, b"x"), "PING, ECHO")
    refuses(lambda: r.execute_command("NOSUCH"), "unknown command", "a command that nobody has")


async def asynchronous(port, other_port, protocol):
    async with redis.asyncio.Redis(port=port, protocol=protocol) as r:
        other = redis.asyncio.Redis(port=other_port, protocol=protocol)
        await asyncio.gather(*(r.set(f"async:{i}", i, ex=100) for i in range(80)))
        values = await asyncio.gather(*(other.get(f"async:{i}") for i in range(80)))
        equal(values, [b"%d" % i for i in range(80)], "asyncio: SET and GET")
        async with r.pipeline(transaction=True) as pipe:
            replies = await pipe.incr("async").incr("async").get("async").execute()
        equal(replies, [1, 2, b"2"], "asyncio: a transaction")
        async with r.lock("async-lock", timeout=5):
            equal(await other.lock("async-lock", blocking=False).acquire(), False, "asyncio: a lock")
        keys = [key async for key in other.scan_iter(match="async:*")]
        equal(len(keys), 80, "asyncio: SCAN")
        await r.delete("async")
        await other.aclose()


def main():
    print(f"redis-py {redis.__version__}")
    for protocol in (2, 3):
        r, other = (redis.Redis(port=port, protocol=protocol) for port in (PORTS[0], PORTS[-1]))
        for key in list(r.scan_iter()):
            r.delete(key)
        for step in (strings, numbers, expiry, pipelines, listing, locks):
            step(r, other)
            print(f"RESP{protocol}: {step.__name__} as expected")
        about(r)
        asyncio.run(asynchronous(PORTS[0], PORTS[-1], protocol))
        print(f"RESP{protocol}: INFO and asyncio as expected")


main()
