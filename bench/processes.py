"""Server processes, their ports and their directories: started, watched, and gone at the end, whatever the end is.

Children are in sessions of their own, so that Ctrl-C reaches this program alone, which then stops them in order; should
it be killed, the kernel kills them (PR_SET_PDEATHSIG).
"""
import ctypes, os, random, shutil, signal, socket, subprocess, tempfile, time

STOP_PATIENCE_S = 15
READY_PATIENCE_S = 60
# Below the ports that Linux gives to outgoing connections; the bus of a Redis Cluster node is 10,000 above its port.
PORTS = range(12000, 22000)
BUS = 10_000
PR_SET_PDEATHSIG = 1


class Trouble(Exception):
    """What went wrong, in words, and what to do."""


class Processes:
    """All that was started. A context: leaving it stops everything and removes the directories."""

    def __init__(self, under):
        self.under = under
        self.children = []
        self.given = set()

    def __enter__(self):
        self.directory = tempfile.mkdtemp(prefix="moim-bench-", dir=self.under)
        return self

    def __exit__(self, *_):
        self.stop(self.children)
        shutil.rmtree(self.directory, ignore_errors=True)

    def start(self, command, log, environment=None):
        """Starts a server; what it says goes to the file `log`."""
        libc = ctypes.CDLL(None)
        with open(log, "ab") as out:
            child = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=out, stderr=out, start_new_session=True,
                env={**os.environ, **(environment or {})},
                preexec_fn=lambda: libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL))
        child.log = log
        self.children.append(child)
        return child

    def stop(self, children):
        """Asks them to end, and kills those that do not."""
        children = list(children)
        for child in children:
            if child.poll() is None:
                child.terminate()
        deadline = time.monotonic() + STOP_PATIENCE_S
        for child in children:
            try:
                child.wait(max(0.1, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                child.kill()
                child.wait()
        self.children = [child for child in self.children if child not in children]

    def ports(self, count):
        """Free ports on loopback, whose bus ports are free as well."""
        found = []
        for port in random.sample(PORTS, len(PORTS)):
            if port not in self.given and is_free(port) and is_free(port + BUS):
                found.append(port)
                self.given.add(port)
                if len(found) == count:
                    return found
        raise Trouble("no free ports on loopback")


def is_free(port):
    with socket.socket() as probe:
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


def until(what, holds, children):
    """Waits until `holds()` is true; it may raise OSError meanwhile."""
    deadline = time.monotonic() + READY_PATIENCE_S
    while True:
        for child in children:
            if child.poll() is not None:
                raise Trouble(f"{what}: a server has ended with {child.returncode}:\n{tail(child.log)}")
        try:
            if holds():
                return
        except OSError:
            pass
        if time.monotonic() > deadline:
            raise Trouble(f"{what} did not happen within {READY_PATIENCE_S} s")
        time.sleep(0.1)


def tail(log):
    with open(log, errors="replace") as text:
        return "".join(text.readlines()[-10:])
