"""The servers that are compared: how each is started, when it is ready, how it is loaded.

Each runs as its authors ship it, on loopback, without TLS, with as much durability as its name says.
"""
import os, re, socket, subprocess, urllib.request

from processes import BUS, Trouble, until


class Server:
    """`key` names it in results; `label` for people."""

    # It has a log of bounded size whose files are made the first time round, and used again ever after.
    wears_in = False

    def __init__(self, key, label):
        self.key, self.label = key, label
        self.children, self.addresses = [], []

    def begin(self, processes):
        self.processes = processes
        self.directory = os.path.join(processes.directory, self.key)
        os.makedirs(self.directory)

    def parts(self):
        """The addresses of those that share their data; each such part has to be filled."""
        return [self.addresses]

    def pids(self):
        return [child.pid for child in self.children]

    def stop(self):
        self.processes.stop(self.children)
        subprocess.run(["rm", "-rf", self.directory], check=False)


class Redis(Server):
    """One process. `log`: None, "everysec" or "always". Rewriting its log is left out: it would fall on some rounds."""

    programs = {"redis-server": "redis-server"}

    def __init__(self, key, label, log=None):
        super().__init__(key, label)
        self.log = log

    def start(self, processes):
        self.begin(processes)
        self.start_process(processes.ports(1)[0], ["--appendonly", "yes" if self.log else "no",
                                                   "--appendfsync", self.log or "no",
                                                   "--auto-aof-rewrite-percentage", "0"])
        until(f"{self.label}: PONG", lambda: ask(self.addresses[0], "PING").startswith("+PONG"), self.children)

    def start_process(self, port, flags):
        directory = os.path.join(self.directory, str(port))
        os.makedirs(directory)
        self.children.append(self.processes.start(
            ["redis-server", "--port", str(port), "--bind", "127.0.0.1", "--dir", directory, "--save", "", *flags],
            os.path.join(directory, "log")))
        self.addresses.append(f"127.0.0.1:{port}")


class RedisCluster(Redis):
    """Masters, three unless told otherwise, each with so many replicas."""

    programs = {"redis-server": "redis-server", "redis-cli": "redis-tools"}

    def __init__(self, key, label, masters=3, replicas=1):
        super().__init__(key, label)
        self.masters, self.replicas = masters, replicas

    def start(self, processes):
        self.begin(processes)
        for port in processes.ports(self.masters * (1 + self.replicas)):
            self.start_process(port, ["--cluster-enabled", "yes", "--cluster-port", str(port + BUS),
                                      "--repl-diskless-sync-delay", "0"])
        for address in self.addresses:
            until(f"{self.label}: PONG", lambda: ask(address, "PING").startswith("+PONG"), self.children)
        made = subprocess.run(["redis-cli", "--cluster", "create", *self.addresses, "--cluster-replicas",
                               str(self.replicas), "--cluster-yes"], capture_output=True, text=True, timeout=120)
        if made.returncode:
            raise Trouble(f"redis-cli --cluster create failed:\n{made.stdout}{made.stderr}")
        until(f"{self.label}: all replicas in step", self.is_whole, self.children)

    def is_whole(self):
        states = [ask(address, "CLUSTER INFO") for address in self.addresses]
        roles = [ask(address, "INFO replication") for address in self.addresses]
        replicas = [role for role in roles if "role:slave" in role]
        return (all("cluster_state:ok" in state for state in states) and len(replicas) == self.masters * self.replicas
                and all("master_link_status:up" in role for role in replicas))


class Etcd(Server):
    """Three members."""

    programs = {"etcd": "etcd-server"}

    def start(self, processes):
        self.begin(processes)
        ports = processes.ports(6)
        clients, peers = ports[:3], ports[3:]
        members = ",".join(f"m{at}=http://127.0.0.1:{port}" for at, port in enumerate(peers))
        for at, (client, peer) in enumerate(zip(clients, peers)):
            directory = os.path.join(self.directory, f"m{at}")
            at_client, at_peer = f"http://127.0.0.1:{client}", f"http://127.0.0.1:{peer}"
            self.children.append(processes.start(
                ["etcd", "--name", f"m{at}", "--data-dir", directory, "--listen-client-urls", at_client,
                 "--advertise-client-urls", at_client, "--listen-peer-urls", at_peer,
                 "--initial-advertise-peer-urls", at_peer, "--initial-cluster", members,
                 "--initial-cluster-token", "moim-bench", "--log-level", "error",
                 "--quota-backend-bytes", str(8 << 30)],
                directory + ".log", {"ETCD_UNSUPPORTED_ARCH": os.uname().machine.replace("aarch64", "arm64")}))
            self.addresses.append(f"127.0.0.1:{client}")
        for address in self.addresses:
            until(f"{self.label}: healthy", lambda: '"true"' in fetch(f"http://{address}/health"), self.children)


class Moim(Server):
    """`nodes` of our own, in one cluster or several; `settings` as their environment says them. With `is_cluster` they are
    asked at the ports that send clients to a key's owner.
    """

    programs = {}
    is_cluster = False
    wears_in = True

    def __init__(self, key, label, binary, nodes=3, settings=None, clusters=1):
        super().__init__(key, label)
        self.binary, self.nodes, self.settings, self.clusters = binary, nodes, settings or {}, clusters
        self.copies = min(3, nodes // clusters) * clusters

    def parts(self):
        size = self.nodes // self.clusters
        return [self.addresses[at:at + size] for at in range(0, self.nodes, size)]

    def start(self, processes):
        self.begin(processes)
        ports = processes.ports(4 * self.nodes)
        peers = [f"127.0.0.1:{port}" for port in ports[3::4]]
        size = self.nodes // self.clusters
        https = []
        for at in range(self.nodes):
            redis, cluster, http, peer = (f"127.0.0.1:{port}" for port in ports[4 * at:4 * at + 4])
            directory = os.path.join(self.directory, f"node-{at + 1}")
            members = peers[at // size * size:][:size]
            found = ["--found", ",".join(members)] if size > 1 else []
            self.children.append(processes.start(
                [self.binary, "server", "--data", directory, "--listen-redis", redis, "--listen-cluster", cluster,
                 "--listen-http", http, "--listen-peer", peer, *found],
                directory + ".log", {f"MOIM_{name}": str(value) for name, value in self.settings.items()}))
            self.addresses.append(cluster if self.is_cluster else redis)
            https.append(http)
        for http in https:
            until(f"{self.label}: ready", lambda: fetch(f"http://{http}/readyz") is not None, self.children)


def ask(address, command):
    """One inline command to a Redis server, and its reply as it comes."""
    host, port = address.rsplit(":", 1)
    with socket.create_connection((host, int(port)), timeout=5) as stream:
        stream.sendall(command.encode() + b"\r\n")
        reply = b""
        while True:
            reply += stream.recv(65536)
            length = re.match(rb"\$(\d+)\r\n", reply)
            whole = len(length[0]) + int(length[1]) + 2 if length else None
            if (whole and len(reply) >= whole) or (reply[:1] in b"+-:" and reply.endswith(b"\r\n")):
                return reply.decode(errors="replace")


def fetch(url):
    with urllib.request.urlopen(url, timeout=5) as answer:
        return answer.read().decode(errors="replace")
