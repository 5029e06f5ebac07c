#!/usr/bin/env python3
"""Membership beside serf, and consensus beside etcd: the same faults, the same machine, one after the other.

usage: cluster_bench.py MESH_NODE [--only NAME] [--nodes N] [--kills N] [--minutes M] [-o table|json]

  detection   kill -9 one of N nodes: time until all others call it dead; time to join; messages and bytes while idle
  starvation  half of the nodes are stopped for 100-900 ms again and again: how often a living node is called dead
  writes      three nodes: latency and throughput of durable writes
  failover    three nodes, kill -9 of the leader under writes: time without an accepted write
  apply       ten nodes: time until all serve a change

Runs in a network namespace of its own (needs root), so that counted datagrams are those of the cluster. Debian: serf etcd-server iproute2.
"""

import argparse
import glob
import http.client
import json
import os
import random
import re
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timezone

from mesh import Mesh, eventually

INSIDE = "MESH_BENCH_NAMESPACE"


def percentile(values, part):
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(len(ordered) * part))] if ordered else float("nan")


def network_counters():
    """UDP datagrams and IP bytes sent in this namespace."""
    tables = {}
    for path in ("/proc/net/snmp", "/proc/net/netstat"):
        with open(path) as file:
            lines = [line.split() for line in file]
        for names, numbers in zip(lines[::2], lines[1::2]):
            tables.update({f"{names[0]}{name}": int(number) for name, number in zip(names[1:], numbers[1:])})
    return {"datagrams": tables["Udp:OutDatagrams"], "segments": tables["Tcp:OutSegs"], "bytes": tables["IpExt:OutOctets"]}


# Membership


class NewLines:
    """The lines that were written to files since the last look, so that looking costs what is new."""

    def __init__(self):
        self.offsets, self.events = {}, []

    def of(self, path):
        try:
            with open(path, "rb") as file:
                file.seek(self.offsets.get(path, 0))
                data = file.read()
        except FileNotFoundError:
            return []
        whole = data.rfind(b"\n") + 1
        self.offsets[path] = self.offsets.get(path, 0) + whole
        return data[:whole].decode(errors="replace").splitlines()


class MeshMembers:
    """mesh-node processes; what a node thinks of another is read from its log, which is stamped in milliseconds."""

    name = "mesh-node"
    line = re.compile(r"^(\S+Z) info (\S+) (\S+) is (alive|suspect|dead)")

    def __init__(self, program, count):
        self.mesh = Mesh(program, nodes=count, gateways=())
        self.names, self.lines = list(self.mesh.addresses), NewLines()

    def prepare(self):
        self.mesh.command("init")

    def start(self):
        for name in self.names:
            self.start_one(name)

    def start_one(self, name):
        self.mesh.spawn(name, [self.mesh.program, "start", "--config", self.mesh.cluster_file, "--node", name, "--workers", "1"])

    def pid(self, name):
        return self.mesh.processes[name].pid

    def reap(self, name):
        self.mesh.processes[name].wait()

    def events(self):
        """(time, observer, subject, state), in the order of each log."""
        for name in self.names:
            for text in self.lines.of(f"{self.mesh.directory}/{name}.log"):
                if found := self.line.match(text):
                    when = datetime.strptime(found[1], "%Y-%m-%dT%H:%M:%S.%fZ").replace(tzinfo=timezone.utc)
                    self.lines.events.append((when.timestamp(), name, found[3], found[4]))
        return self.lines.events

    def stop(self):
        self.mesh.__exit__()


class SerfMembers:
    """serf agents with the LAN profile; an event handler writes down what each thinks."""

    name = "serf"

    def __init__(self, _, count):
        self.directory = tempfile.mkdtemp(prefix="mesh-serf-")
        self.names = [f"n{i}" for i in range(1, count + 1)]
        self.address = {name: f"127.77.1.{i}" for i, name in enumerate(self.names, 1)}
        self.processes, self.lines = {}, NewLines()
        handler = f"{self.directory}/handler"
        with open(handler, "w") as out:
            out.write(f'#!/bin/sh\nnow=$(date +%s.%N)\nwhile read name rest; do echo "$now $name $SERF_EVENT" >> {self.directory}/$SERF_SELF_NAME.events; done\n')
        os.chmod(handler, 0o755)
        self.handler = handler

    def prepare(self):
        pass

    def start(self):
        for name in self.names:
            self.start_one(name)

    def start_one(self, name):
        address = self.address[name]
        join = [] if name == self.names[0] else ["-retry-join", self.address[self.names[0]]]
        if name == self.names[0] and self.processes:
            join = ["-retry-join", self.address[self.names[1]]]
        log = open(f"{self.directory}/{name}.log", "ab")
        self.processes[name] = subprocess.Popen(
            ["serf", "agent", "-node", name, "-bind", address, "-rpc-addr", f"{address}:7373", "-event-handler", self.handler,
             "-retry-interval", "1s", *join],
            stdin=subprocess.DEVNULL, stdout=log, stderr=log)

    def pid(self, name):
        return self.processes[name].pid

    def reap(self, name):
        self.processes[name].wait()

    def events(self):
        words = {"member-join": "alive", "member-failed": "dead", "member-leave": "left"}
        for path in glob.glob(f"{self.directory}/*.events"):
            observer = os.path.basename(path).removesuffix(".events")
            for text in self.lines.of(path):
                when, subject, event = text.split()
                if event in words:
                    self.lines.events.append((float(when), observer, subject, words[event]))
        return self.lines.events

    def stop(self):
        for process in self.processes.values():
            process.kill()
            process.wait()
        shutil.rmtree(self.directory, ignore_errors=True)


def latest(cluster, since):
    """What each observer last thought of each subject since then."""
    view = {}
    for when, observer, subject, state in cluster.events():
        if when >= since and subject != observer:
            view[observer, subject] = (state, when)
    return view


def wait_all(cluster, subject, state, since, seconds=120):
    """The moments at which every other node came to call the subject so."""
    others = [name for name in cluster.names if name != subject]
    moments = []

    def all_agree():
        view = latest(cluster, since)
        moments[:] = [view[other, subject][1] for other in others if view.get((other, subject), ("",))[0] == state]
        return len(moments) == len(others)

    eventually(all_agree, f"all call {subject} {state}", seconds)
    return moments


def bench_detection(make, options):
    cluster = make(options.program, options.nodes)
    try:
        cluster.prepare()
        began = time.time()
        cluster.start()
        joined = max(max(wait_all(cluster, name, "alive", 0)) for name in cluster.names)
        # Joining is over a while after all know each other: certificates are issued, registries compared.
        time.sleep(30)
        before, span = network_counters(), 20
        time.sleep(span)
        after = network_counters()
        first, last = [], []
        order = random.Random(options.seed)
        for number in range(options.kills):
            victim = order.choice(cluster.names)
            killed = time.time()
            os.kill(cluster.pid(victim), signal.SIGKILL)
            cluster.reap(victim)
            moments = wait_all(cluster, victim, "dead", killed)
            first.append(min(moments) - killed)
            last.append(max(moments) - killed)
            again = time.time()
            cluster.start_one(victim)
            wait_all(cluster, victim, "alive", again)
            progress(f"{cluster.name}: kill {number + 1} of {options.kills}, all knew after {last[-1]:.2f} s")
        per_node = {key: (after[key] - before[key]) / span / options.nodes for key in before}
        return {
            "join_s": joined - began, "first_dead_p50_s": statistics.median(first), "all_dead_p50_s": statistics.median(last),
            "all_dead_max_s": max(last), "datagrams_per_node_s": per_node["datagrams"],
            "tcp_segments_per_node_s": per_node["segments"], "bytes_per_node_s": per_node["bytes"],
        }
    finally:
        cluster.stop()


def bench_starvation(make, options):
    cluster = make(options.program, options.nodes)
    try:
        cluster.prepare()
        cluster.start()
        for name in cluster.names:
            wait_all(cluster, name, "alive", 0)
        began = time.time()
        end = began + options.minutes * 60
        starved = cluster.names[1::2]
        threads = [threading.Thread(target=starve, args=(cluster.pid(name), end, options.seed + i)) for i, name in enumerate(starved)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        convicted = [(observer, subject) for when, observer, subject, state in cluster.events() if when >= began and state == "dead"]
        return {
            "minutes": options.minutes, "false_deaths": len(convicted),
            "of_starved_nodes": len({s for _, s in convicted if s in starved}),
            "of_healthy_nodes": len({s for _, s in convicted if s not in starved}),
        }
    finally:
        cluster.stop()


def starve(pid, end, seed):
    draws = random.Random(seed)
    try:
        while time.time() < end:
            os.kill(pid, signal.SIGSTOP)
            time.sleep(draws.uniform(0.1, 0.9))
            os.kill(pid, signal.SIGCONT)
            time.sleep(draws.uniform(0.1, 0.9))
    finally:
        os.kill(pid, signal.SIGCONT)


# Consensus


class UnixConnection(http.client.HTTPConnection):
    def __init__(self, path, timeout):
        super().__init__("localhost", timeout=timeout)
        self.path = path

    def connect(self):
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self.path)


class MeshWrites:
    name = "mesh-node"

    def __init__(self, program, count=3):
        self.mesh = Mesh(program, nodes=count, gateways=())
        self.names = list(self.mesh.addresses)

    def start(self):
        self.mesh.start()
        eventually(lambda: self.leader() is not None, "a leader", 30)

    def socket_path(self, name):
        return f"{self.mesh.directory}/.mesh/{name}/admin.sock"

    def connection(self, name, timeout):
        return UnixConnection(self.socket_path(name), timeout)

    def write(self, connection, number, wait=False):
        text = (
            "apiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {name: bench}\n"
            f'spec: {{hosts: [bench.test], http: [{{name: "{number}", directResponse: {{status: 200}}}}]}}\n'
        )
        body = {"sources": [{"name": "bench.yaml", "text": text}], "dryRun": False, "strict": False, "wait": wait, "timeoutMilliseconds": 5000, "namespace": "default"}
        connection.request("POST", "/v1/apply", json.dumps(body))
        response = connection.getresponse()
        answer = response.read()
        if response.status != 200:
            raise OSError(f"{response.status} {answer[:200]}")
        return json.loads(answer)

    def leader(self):
        for name in self.names:
            try:
                connection = self.connection(name, 1)
                connection.request("GET", "/v1/status")
                leader = json.loads(connection.getresponse().read())["consensus"].get("leader")
                if leader:
                    return leader
            except (OSError, http.client.HTTPException, ValueError):
                continue
        return None

    def kill(self, name):
        self.mesh.processes[name].kill()
        self.mesh.processes[name].wait()

    def restart(self, name):
        self.mesh.spawn(name, [self.mesh.program, "start", "--config", self.mesh.cluster_file, "--node", name])
        eventually(lambda: self.mesh.is_ready(name), f"{name} is ready", 60)

    def stop(self):
        self.mesh.__exit__()


class EtcdWrites:
    name = "etcd"

    def __init__(self, _, count=3):
        self.directory = tempfile.mkdtemp(prefix="mesh-etcd-")
        self.names = [f"n{i}" for i in range(1, count + 1)]
        self.address = {name: f"127.78.1.{i}" for i, name in enumerate(self.names, 1)}
        self.processes = {}

    def start(self):
        for name in self.names:
            self.start_one(name)
        eventually(lambda: self.leader() is not None, "a leader", 30)

    def start_one(self, name):
        address = self.address[name]
        peers = ",".join(f"{n}=http://{a}:2380" for n, a in self.address.items())
        log = open(f"{self.directory}/{name}.log", "ab")
        self.processes[name] = subprocess.Popen(
            ["etcd", "--name", name, "--data-dir", f"{self.directory}/{name}", "--listen-client-urls", f"http://{address}:2379",
             "--advertise-client-urls", f"http://{address}:2379", "--listen-peer-urls", f"http://{address}:2380",
             "--initial-advertise-peer-urls", f"http://{address}:2380", "--initial-cluster", peers],
            stdin=subprocess.DEVNULL, stdout=log, stderr=log)

    def connection(self, name, timeout):
        return http.client.HTTPConnection(self.address[name], 2379, timeout=timeout)

    def post(self, connection, path, body):
        connection.request("POST", path, json.dumps(body), {"Content-Type": "application/json"})
        response = connection.getresponse()
        answer = response.read()
        if response.status != 200:
            raise OSError(f"{response.status} {answer[:200]}")
        return json.loads(answer)

    def write(self, connection, number, wait=False):
        value = f"{number:x}".rjust(240, "0")
        return self.post(connection, "/v3/kv/put", {"key": "YmVuY2g=", "value": value})

    def leader(self):
        for name in self.names:
            try:
                status = self.post(self.connection(name, 1), "/v3/maintenance/status", {})
                leader = status.get("leader", "0")
                members = self.post(self.connection(name, 1), "/v3/cluster/member/list", {})["members"]
                for member in members:
                    if leader != "0" and member["ID"] == leader:
                        return member["name"]
            except (OSError, http.client.HTTPException, ValueError, KeyError):
                continue
        return None

    def kill(self, name):
        self.processes[name].kill()
        self.processes[name].wait()

    def restart(self, name):
        self.start_one(name)
        eventually(lambda: self.answers(name), f"{name} answers", 60)

    def answers(self, name):
        try:
            self.write(self.connection(name, 1), 0)
            return True
        except (OSError, http.client.HTTPException, ValueError):
            return False

    def stop(self):
        for process in self.processes.values():
            process.kill()
            process.wait()
        shutil.rmtree(self.directory, ignore_errors=True)


def bench_writes(make, options):
    cluster = make(options.program)
    try:
        cluster.start()
        leader = cluster.leader()
        connection = cluster.connection(leader, 10)
        times = []
        for number in range(options.writes + 20):
            began = time.perf_counter()
            cluster.write(connection, number)
            times.append(time.perf_counter() - began)
        times = times[20:]

        def many(worker):
            mine = cluster.connection(leader, 30)
            for number in range(options.writes // 4):
                cluster.write(mine, worker * 1_000_000 + number)

        began = time.perf_counter()
        with ThreadPoolExecutor(16) as pool:
            list(pool.map(many, range(16)))
        took = time.perf_counter() - began
        return {
            "p50_ms": percentile(times, 0.5) * 1e3, "p99_ms": percentile(times, 0.99) * 1e3,
            "writes_per_s_16_clients": 16 * (options.writes // 4) / took,
        }
    finally:
        cluster.stop()


def bench_failover(make, options):
    """Four writers go round the living nodes; each try may take one second."""
    cluster = make(options.program)
    gaps = []
    try:
        cluster.start()
        for number in range(options.failovers):
            leader = cluster.leader()
            alive = [name for name in cluster.names if name != leader]
            done, accepted = threading.Event(), []
            threads = [threading.Thread(target=keep_writing, args=(cluster, alive, i, done, accepted)) for i in range(4)]
            for thread in threads:
                thread.start()
            eventually(lambda: len(accepted) >= 20, "writes before the kill", 60)
            killed = time.monotonic()
            cluster.kill(leader)
            eventually(lambda: accepted and max(accepted) > killed + 0.02, "a write after the kill", 60)
            done.set()
            for thread in threads:
                thread.join()
            # A write that the leader had committed may still be confirmed in the first moments.
            ordered = sorted(moment for moment in accepted if moment > killed - 1)
            gaps.append(max(later - earlier for earlier, later in zip(ordered, ordered[1:]) if later > killed))
            cluster.restart(leader)
            progress(f"{cluster.name}: kill {number + 1} of {options.failovers}, {gaps[-1]:.3f} s without a write")
        return {"kills": len(gaps), "p50_s": percentile(gaps, 0.5), "p99_s": percentile(gaps, 0.99), "max_s": max(gaps)}
    finally:
        cluster.stop()


def keep_writing(cluster, names, worker, done, accepted):
    number, connection = worker * 10_000_000, None
    while not done.is_set():
        number += 1
        try:
            connection = connection or cluster.connection(names[number % len(names)], 1)
            cluster.write(connection, number)
            accepted.append(time.monotonic())
        except (OSError, http.client.HTTPException, ValueError):
            connection = None
            time.sleep(0.005)


def bench_apply(make, options):
    cluster = MeshWrites(options.program, 10)
    try:
        cluster.start()
        connection = cluster.connection(cluster.names[0], 30)
        times = []
        for number in range(options.writes // 4 + 10):
            report = cluster.write(connection, number, wait=True)
            if report["lagging"] or len(report["serving"]) != 10:
                raise RuntimeError(f"not all served: {report}")
            times.append(report["elapsedMilliseconds"])
        times = times[10:]
        return {"p50_ms": percentile(times, 0.5), "p99_ms": percentile(times, 0.99)}
    finally:
        cluster.stop()


def progress(text):
    if sys.stderr.isatty():
        print(f"\r\033[K{text}", end="", file=sys.stderr, flush=True)


BENCHES = {
    "detection": (bench_detection, (MeshMembers, SerfMembers)),
    "starvation": (bench_starvation, (MeshMembers, SerfMembers)),
    "writes": (bench_writes, (MeshWrites, EtcdWrites)),
    "failover": (bench_failover, (MeshWrites, EtcdWrites)),
    "apply": (bench_apply, (MeshWrites,)),
}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("program", metavar="MESH_NODE")
    parser.add_argument("--only", action="append", choices=list(BENCHES))
    parser.add_argument("--nodes", type=int, default=20)
    parser.add_argument("--kills", type=int, default=10)
    parser.add_argument("--failovers", type=int, default=50)
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--writes", type=int, default=400)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("-o", "--output", choices=["table", "json"], default="table")
    options = parser.parse_args()
    options.program = os.path.abspath(options.program)
    if INSIDE not in os.environ:
        if os.geteuid() != 0 or not shutil.which("unshare"):
            sys.exit("needs root, for a network namespace of its own: run it as root")
        os.execvpe("unshare", ["unshare", "--net", sys.executable, *sys.argv], {**os.environ, INSIDE: "1"})
    subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
    load, cores = os.getloadavg()[0], os.cpu_count()
    results, failed = {}, False
    if options.output == "table":
        print(f"{datetime.now(timezone.utc):%Y-%m-%d %H:%M} UTC, {cores} cores, load {load:.1f}"
              + (": the machine is busy, these figures are worth little" if load > cores / 4 else ""), flush=True)
    for name in options.only or BENCHES:
        run, kinds = BENCHES[name]
        for kind in kinds:
            program = {SerfMembers: "serf", EtcdWrites: "etcd"}.get(kind)
            if program and not shutil.which(program):
                print(f"{name}: {program} is not installed, skipped", file=sys.stderr)
                continue
            try:
                results.setdefault(name, {})[kind.name] = run(kind, options)
            except (TimeoutError, RuntimeError, OSError) as error:
                failed = True
                print(f"{name}: {kind.name} failed: {error}", file=sys.stderr, flush=True)
        progress("")
        if options.output == "table":
            show(name, results.get(name, {}))
    if options.output == "json":
        print(json.dumps(results, indent=2))
    sys.exit(1 if failed else 0)


def show(name, by_kind):
    print(f"\n{name}")
    keys = next(iter(by_kind.values()), {})
    print("  " + "".ljust(26) + "".join(kind.rjust(14) for kind in by_kind))
    for key in keys:
        print("  " + key.ljust(26) + "".join(f"{values[key]:14.3f}" if isinstance(values[key], float) else f"{values[key]:14}" for values in by_kind.values()), flush=True)


if __name__ == "__main__":
    main()
