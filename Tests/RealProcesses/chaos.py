#!/usr/bin/env python3
"""Breaks a cluster of real processes, each node in a network namespace of its own, under traffic and configuration writes.

usage: chaos.py MESH_NODE [--minutes N] [--seed X] [--nodes N] [-o table|json]

Faults: partitions (also one-way), isolation, kill -9, pauses, full disks, slow and lossy networks. One seed draws the same faults
again. After the last fault has healed it is checked that every acknowledged write is there, that the order of revisions agrees
with the order of time (a write that began after another had ended has the higher revision), that no node ever went back, that
all nodes agree on revision and registry, and that every failed request falls into a fault. Exits 1 otherwise. Needs root.
"""

import argparse
import http.client
import json
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time

from cluster_bench import UnixConnection
from mesh import Mesh, eventually

INSIDE = "MESH_CHAOS_NAMESPACE"
NETWORK = "10.77.0"
GATEWAY_PORT = 8080
HERE = os.path.dirname(os.path.abspath(__file__))
# After a fault has healed: time in which consequences are still explained by it.
GRACE = 5.0
DISK_BYTES = 64 << 20
KEYS = 6


def ip(*arguments, check=True):
    subprocess.run(["ip", *arguments], check=check, capture_output=not check)


class ChaosMesh(Mesh):
    """Each node has its own host: a network namespace on one bridge, and a small disk."""

    def __init__(self, program, nodes):
        super().__init__(program, nodes=nodes, gateways=("n1", "n2"), network=NETWORK)
        ip("link", "set", "lo", "up")
        ip("link", "add", "bridge", "type", "bridge")
        ip("addr", "add", f"{NETWORK}.254/24", "dev", "bridge")
        ip("link", "set", "bridge", "up")
        for name, address in self.addresses.items():
            ip("netns", "add", name)
            ip("link", "add", f"port-{name}", "type", "veth", "peer", "name", "eth0", "netns", name)
            ip("link", "set", f"port-{name}", "master", "bridge", "up")
            ip("-n", name, "link", "set", "lo", "up")
            ip("-n", name, "addr", "add", f"{address}/24", "dev", "eth0")
            ip("-n", name, "link", "set", "eth0", "up")
            disk = self.disk(name)
            os.makedirs(disk)
            subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={DISK_BYTES},mode=700", "tmpfs", disk], check=True)

    def prefix(self, node):
        return ["ip", "netns", "exec", node]

    def disk(self, node):
        return f"{self.directory}/.mesh/{node}"

    def admin(self, node, method, path, body=None, timeout=3):
        connection = UnixConnection(f"{self.disk(node)}/admin.sock", timeout)
        try:
            connection.request(method, path, json.dumps(body) if body is not None else None)
            response = connection.getresponse()
            return response.status, json.loads(response.read() or b"null")
        finally:
            connection.close()

    def block(self, sender, receiver):
        """Nothing that `sender` sends reaches `receiver`."""
        ip("-n", sender, "route", "replace", "blackhole", f"{self.addresses[receiver]}/32")

    def unblock(self, sender, receiver):
        ip("-n", sender, "route", "del", "blackhole", f"{self.addresses[receiver]}/32", check=False)


# Faults: what they do, and how they heal.


class Fault:
    def __init__(self, nodes, words):
        self.nodes, self.words = nodes, words
        self.began = self.healed = None


class Partition(Fault):
    def __init__(self, mesh, draws):
        names = list(mesh.addresses)
        some = draws.sample(names, draws.randint(1, len(names) // 2))
        rest = [name for name in names if name not in some]
        self.pairs = [(a, b) for a in some for b in rest]
        kind = draws.choice(["both ways", "out only", "in only"])
        if kind == "both ways":
            self.pairs += [(b, a) for a, b in self.pairs]
        elif kind == "in only":
            self.pairs = [(b, a) for a, b in self.pairs]
        super().__init__(names, f"partition {'+'.join(some)} | {'+'.join(rest)}, {kind}")

    def begin(self, mesh):
        for pair in self.pairs:
            mesh.block(*pair)

    def heal(self, mesh):
        for pair in self.pairs:
            mesh.unblock(*pair)


class Kill(Fault):
    def __init__(self, mesh, draws):
        self.node = draws.choice(list(mesh.addresses))
        super().__init__([self.node], f"kill -9 {self.node}")

    def begin(self, mesh):
        mesh.processes[self.node].kill()
        mesh.processes[self.node].wait()

    def heal(self, mesh):
        mesh.start_node(self.node)


class Pause(Fault):
    def __init__(self, mesh, draws):
        self.node = draws.choice(list(mesh.addresses))
        super().__init__([self.node], f"pause {self.node}")

    def begin(self, mesh):
        mesh.processes[self.node].send_signal(signal.SIGSTOP)

    def heal(self, mesh):
        mesh.processes[self.node].send_signal(signal.SIGCONT)


class FullDisk(Fault):
    def __init__(self, mesh, draws):
        self.node = draws.choice(list(mesh.addresses))
        super().__init__([self.node], f"full disk on {self.node}")

    def begin(self, mesh):
        try:
            with open(f"{mesh.disk(self.node)}/ballast", "wb", buffering=0) as out:
                while True:
                    out.write(bytes(1 << 16))
        except OSError:
            pass

    def heal(self, mesh):
        os.unlink(f"{mesh.disk(self.node)}/ballast")
        # A node whose disk failed may end itself; whoever supervises it starts it again.
        if mesh.processes[self.node].poll() is not None:
            mesh.start_node(self.node)


class SlowNetwork(Fault):
    def __init__(self, mesh, draws):
        self.node = draws.choice(list(mesh.addresses))
        self.delay, self.loss = draws.randint(20, 200), draws.randint(0, 10)
        super().__init__([self.node], f"{self.delay} ms delay and {self.loss} % loss at {self.node}")

    def begin(self, mesh):
        subprocess.run(
            ["ip", "netns", "exec", self.node, "tc", "qdisc", "replace", "dev", "eth0", "root", "netem", "delay",
             f"{self.delay}ms", f"{self.delay // 4}ms", "loss", f"{self.loss}%"], check=True)

    def heal(self, mesh):
        subprocess.run(["ip", "netns", "exec", self.node, "tc", "qdisc", "del", "dev", "eth0", "root"], check=False)


def drawn_faults(mesh, draws):
    kinds = [Partition, Kill, Pause, FullDisk] + ([SlowNetwork] if shutil.which("tc") and has_netem(mesh) else [])
    while True:
        yield draws.choice(kinds)(mesh, draws)


def has_netem(mesh):
    node = next(iter(mesh.addresses))
    command = ["ip", "netns", "exec", node, "tc", "qdisc"]
    works = subprocess.run([*command, "add", "dev", "lo", "root", "netem", "delay", "0ms"], capture_output=True).returncode == 0
    if works:
        subprocess.run([*command, "del", "dev", "lo", "root"], capture_output=True)
    return works


# What goes on meanwhile.


class Writers:
    """Writes numbered values; remembers for each when it began, when it was acknowledged, and at which revision."""

    def __init__(self, mesh, seed):
        self.mesh, self.done = mesh, threading.Event()
        self.history, self.lock, self.number = [], threading.Lock(), 0
        self.threads = [threading.Thread(target=self.write, args=(random.Random(seed + i),)) for i in range(3)]
        self.reader = threading.Thread(target=self.read, args=(random.Random(seed + 100),))
        self.went_back, self.seen = [], {}
        for thread in [*self.threads, self.reader]:
            thread.start()

    def write(self, draws):
        while not self.done.is_set():
            with self.lock:
                self.number += 1
                number = self.number
            key, node = f"key-{draws.randrange(KEYS)}", draws.choice(list(self.mesh.addresses))
            record = {"key": key, "value": str(number), "node": node, "began": time.monotonic(), "revision": None}
            text = (
                f"apiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {{name: {key}}}\n"
                f'spec: {{hosts: [{key}.test], http: [{{name: "{number}", directResponse: {{status: 200}}}}]}}\n'
            )
            body = {"sources": [{"name": "chaos.yaml", "text": text}], "dryRun": False, "wait": False,
                    "timeoutMilliseconds": 2000, "namespace": "default"}
            try:
                status, answer = self.mesh.admin(node, "POST", "/v1/apply", body)
                if status == 200:
                    record["revision"] = answer["revision"]
                else:
                    record["refusal"] = answer.get("code")
            except (OSError, http.client.HTTPException, ValueError) as error:
                record["refusal"] = type(error).__name__
            record["ended"] = time.monotonic()
            with self.lock:
                self.history.append(record)
            time.sleep(0.02)

    def read(self, draws):
        """A node's state never goes back, not even over a restart."""
        while not self.done.is_set():
            node = draws.choice(list(self.mesh.addresses))
            try:
                for name, version in self.objects(node).items():
                    if version[0] < self.seen.get((node, name), (0,))[0]:
                        self.went_back.append(f"{node}: {name} was at {self.seen[node, name]}, then at {version}")
                    self.seen[node, name] = version
            except (OSError, http.client.HTTPException, ValueError, KeyError, TypeError):
                pass
            time.sleep(0.1)

    def objects(self, node):
        status, objects = self.mesh.admin(node, "GET", "/v1/objects?kind=VirtualService")
        if status != 200:
            raise ValueError(status)
        found = {}
        for stored in objects:
            if stored["name"].startswith("key-"):
                value = json.loads(stored["json"])["spec"]["http"][0]["name"]
                found[stored["name"]] = (stored["resourceVersion"], value)
        return found

    def stop(self):
        self.done.set()
        for thread in [*self.threads, self.reader]:
            if thread.is_alive():
                thread.join()


class Traffic:
    """Steady requests through each gateway."""

    def __init__(self, mesh, gateways, per_second):
        self.mesh, self.done, self.pause = mesh, threading.Event(), 1 / per_second
        self.total, self.failures = 0, []
        self.threads = [threading.Thread(target=self.send, args=(name,)) for name in gateways]
        for thread in self.threads:
            thread.start()

    def send(self, gateway):
        while not self.done.is_set():
            began = time.monotonic()
            self.total += 1
            try:
                connection = http.client.HTTPConnection(self.mesh.addresses[gateway], GATEWAY_PORT, timeout=5)
                connection.request("GET", "/", headers={"Host": "echo.test"})
                status = connection.getresponse().status
                connection.close()
                if status != 200:
                    self.failures.append((began, time.monotonic(), gateway, str(status)))
            except (OSError, http.client.HTTPException) as error:
                self.failures.append((began, time.monotonic(), gateway, type(error).__name__))
            time.sleep(max(0, self.pause - (time.monotonic() - began)))

    def stop(self):
        self.done.set()
        for thread in self.threads:
            thread.join()


CONFIGURATION = f"""
apiVersion: networking.istio.io/v1
kind: Gateway
metadata: {{name: entrance}}
spec:
  selector: {{istio: ingressgateway}}
  servers: [{{port: {{number: {GATEWAY_PORT}, name: http, protocol: HTTP}}, hosts: ["*"]}}]
---
apiVersion: v1
kind: Service
metadata: {{name: echo}}
spec: {{selector: {{app: echo}}, ports: [{{port: 9002, name: http}}]}}
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {{name: echo}}
spec:
  hosts: [echo.test]
  gateways: [entrance]
  http: [{{route: [{{destination: {{host: echo, port: {{number: 9002}}}}}}]}}]
"""


# Judging.


def judge(mesh, writers, traffic, faults):
    problems = list(writers.went_back)
    acknowledged = [record for record in writers.history if record["revision"]]
    unknown = [record for record in writers.history if not record["revision"]]
    problems += order_problems(acknowledged)
    views = {name: writers.objects(name) for name in mesh.addresses}
    first = views[next(iter(views))]
    problems += [f"{name} has other objects than the rest" for name, view in views.items() if view != first]
    problems += presence_problems(first, acknowledged, unknown)
    unexplained = [failure for failure in traffic.failures if not any(explains(fault, failure) for fault in faults)]
    problems += [f"request through {g} failed ({why}) with no fault in force" for _, _, g, why in unexplained[:10]]
    return problems, {
        "faults": len(faults), "writes_acknowledged": len(acknowledged), "writes_refused_or_unknown": len(unknown),
        "requests": traffic.total, "requests_failed": len(traffic.failures), "requests_failed_unexplained": len(unexplained),
    }


def order_problems(acknowledged):
    """A write that began after another was acknowledged comes later in the log."""
    problems, by_revision = [], {}
    for record in acknowledged:
        other = by_revision.setdefault(record["revision"], record)
        if other is not record:
            problems.append(f"values {other['value']} and {record['value']} were both acknowledged at revision {record['revision']}")
    highest, ended = 0, sorted(acknowledged, key=lambda record: record["ended"])
    position = 0
    for record in sorted(acknowledged, key=lambda record: record["began"]):
        while position < len(ended) and ended[position]["ended"] < record["began"]:
            highest = max(highest, ended[position]["revision"])
            position += 1
        if record["revision"] < highest:
            problems.append(f"value {record['value']} has revision {record['revision']}, but {highest} was acknowledged before it began")
    return problems


def presence_problems(objects, acknowledged, unknown):
    problems = []
    for key in sorted({record["key"] for record in acknowledged}):
        last = max((record for record in acknowledged if record["key"] == key), key=lambda record: record["revision"])
        version, value = objects.get(key, (0, None))
        late = {record["value"] for record in unknown if record["key"] == key}
        if value != last["value"] and not (value in late and version > last["revision"]):
            problems.append(f"{key} is {value} at {version}; the last acknowledged write was {last['value']} at {last['revision']}")
    return problems


def explains(fault, failure):
    began, ended, *_ = failure
    return ended >= fault.began and began <= fault.healed + GRACE


def agree(mesh):
    seen = set()
    for name in mesh.addresses:
        try:
            status, body = mesh.admin(name, "GET", "/v1/status")
        except (OSError, http.client.HTTPException, ValueError):
            return False
        if status != 200 or not body["ready"] or body["members"]["alive"] != len(mesh.addresses):
            return False
        seen.add((body["revision"], body["servedRevision"], body["registryDigest"], body["consensus"]["leader"]))
    return len(seen) == 1


def await_agreement(mesh, when):
    try:
        eventually(lambda: agree(mesh), f"all nodes agree {when}", 120)
    except TimeoutError:
        for name in mesh.addresses:
            print(mesh.log(name, 40), file=sys.stderr)
            try:
                body = mesh.admin(name, "GET", "/v1/status")[1]
                print({key: body[key] for key in ("ready", "notes", "consensus", "revision", "servedRevision", "registryDigest", "members", "links")}, file=sys.stderr)
            except (OSError, http.client.HTTPException, ValueError) as error:
                print(f"{name} does not answer: {error}", file=sys.stderr)
        raise


def run(options):
    draws = random.Random(options.seed)
    faults = []
    with ChaosMesh(options.program, options.nodes) as mesh:
        mesh.write_config("chaos.yaml", CONFIGURATION)
        mesh.start()
        for name, address in mesh.addresses.items():
            mesh.run("echo", 9002, [sys.executable, f"{HERE}/origins.py", "echo", address, "9002"], node=name,
                     options=["--name", f"echo-{name}"])
        await_agreement(mesh, "at the start")
        eventually(lambda: all_serve(mesh), "all applications answer", 60)
        writers, traffic = Writers(mesh, options.seed), Traffic(mesh, ("n1", "n2"), 20)
        try:
            end = time.monotonic() + options.minutes * 60
            source = drawn_faults(mesh, draws)
            while time.monotonic() < end:
                fault = next(source)
                length = draws.uniform(0.5, 12)
                fault.began = time.monotonic()
                fault.healed = float("inf")
                faults.append(fault)
                if options.output == "table":
                    print(f"{options.minutes * 60 - (end - fault.began):7.1f} s  {fault.words}, {length:.1f} s", flush=True)
                fault.begin(mesh)
                time.sleep(length)
                fault.heal(mesh)
                fault.healed = time.monotonic()
                time.sleep(draws.uniform(0.5, 6))
            # What changes all the time cannot be equal everywhere at one moment.
            writers.stop()
            await_agreement(mesh, "after the last fault")
            settled = time.monotonic()
            faults[-1].healed = max(faults[-1].healed, settled - GRACE)
            time.sleep(3)
        finally:
            writers.stop()
            traffic.stop()
        problems, numbers = judge(mesh, writers, traffic, faults)
        if problems:
            for name in mesh.addresses:
                print(mesh.log(name, 60), file=sys.stderr)
        return problems, numbers


def all_serve(mesh):
    try:
        status, services = mesh.admin("n1", "GET", "/v1/services")
        echo = next(service for service in services if service["name"] == "echo")
        return sum(endpoint["health"] == "healthy" for endpoint in echo["endpoints"]) == len(mesh.addresses)
    except (OSError, http.client.HTTPException, ValueError, StopIteration, KeyError):
        return False


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("program", metavar="MESH_NODE")
    parser.add_argument("--minutes", type=float, default=5)
    parser.add_argument("--seed", type=int, default=int(time.time()))
    parser.add_argument("--nodes", type=int, default=5)
    parser.add_argument("-o", "--output", choices=["table", "json"], default="table")
    options = parser.parse_args()
    options.program = os.path.abspath(options.program)
    if INSIDE not in os.environ:
        if os.geteuid() != 0 or not shutil.which("ip") or not shutil.which("unshare"):
            print("skipped: chaos needs root, iproute2 and unshare, for hosts of its own")
            sys.exit(0)
        namespaces = ["unshare", "--net", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc"]
        os.execvpe("unshare", [*namespaces, sys.executable, *sys.argv, "--seed", str(options.seed)], {**os.environ, INSIDE: "1"})
    os.makedirs("/run/netns", exist_ok=True)
    subprocess.run(["mount", "-t", "tmpfs", "tmpfs", "/run/netns"], check=True)
    if options.output == "table":
        print(f"seed {options.seed}, {options.nodes} nodes, {options.minutes} minutes", flush=True)
    problems, numbers = run(options)
    if options.output == "json":
        print(json.dumps({"seed": options.seed, "problems": problems, **numbers}, indent=2))
    else:
        print("\n" + "\n".join(f"  {key:30} {value}" for key, value in numbers.items()))
        print("\n".join(f"PROBLEM  {problem}" for problem in problems) or "no problem found")
    sys.exit(1 if problems else 0)


if __name__ == "__main__":
    main()
