#!/usr/bin/env python3
"""Breaks a cluster of real processes, each node in a network namespace of its own, under traffic and configuration writes.

usage: chaos.py MESH_NODE [--minutes N] [--seed X] [--nodes N] [--short] [-o table|json]

Faults: partitions (also one-way), kill -9 of one and of all nodes, restarts, pauses, full disks, slow and lossy networks where the
kernel has netem; one at a time, or two on different nodes. One seed draws the same faults again. An operator meanwhile moves roles,
drains nodes and changes the gossip key. Afterwards it is checked that
- writes and consistent reads (get --consistent, of any node) are linearizable, key by key (history.py);
- what a node showed at any moment is a prefix of the log, and no node ever went back, not even over a restart, but for those that
  heard from no leader since their start and say so;
- every acknowledged write is there, and the order of revisions agrees with the order of time;
- all nodes agree on members, leader, revision and registry, within two minutes after the last fault;
- every failed request is explained by a fault that was in force: a full disk explains none, and a node that died or stands still
  explains requests to others only until they have found out.
Exits 1 otherwise. Needs root. Wall clocks do not jump: the kernel has one for all.
--short runs a fixed list of faults on three nodes, in less than a minute, and is part of `make test`.
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

import history
from cluster_bench import UnixConnection
from mesh import Mesh, eventually

INSIDE = "MESH_CHAOS_NAMESPACE"
NETWORK = "10.77.0"
GATEWAY_PORT = 8080
GATEWAYS = ("n1", "n2")
NAMESPACES = ["unshare", "--net", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc"]
HERE = os.path.dirname(os.path.abspath(__file__))
# After a fault has healed: time in which consequences are still explained by it.
GRACE = 5.0
# In which a process that was started again has to serve; how long that takes is a matter of the machine.
RETURN = 60.0
# Until the others have found out about a node that died or stands still.
DETECTION = 8.0
DISK_BYTES = 64 << 20
KEYS = 6


def ip(*arguments, check=True):
    subprocess.run(["ip", *arguments], check=check, capture_output=not check)


class ChaosMesh(Mesh):
    """Each node has its own host: a network namespace on one bridge, and a small disk."""

    def __init__(self, program, nodes):
        super().__init__(program, nodes=nodes, gateways=GATEWAYS, network=NETWORK)
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
        return self.ask(node, method, path, body, timeout)[:2]

    def ask(self, node, method, path, body=None, timeout=3):
        """Status, answer, and what the node warns of besides."""
        connection = UnixConnection(f"{self.disk(node)}/admin.sock", timeout)
        try:
            connection.request(method, path, json.dumps(body) if body is not None else None)
            response = connection.getresponse()
            return response.status, json.loads(response.read() or b"null"), response.getheader("warning")
        finally:
            connection.close()

    def block(self, sender, receiver):
        """Nothing that `sender` sends reaches `receiver`."""
        ip("-n", sender, "route", "replace", "blackhole", f"{self.addresses[receiver]}/32")

    def unblock(self, sender, receiver):
        ip("-n", sender, "route", "del", "blackhole", f"{self.addresses[receiver]}/32", check=False)


# Faults: what they do, how they heal, and which failed requests they explain.


class Fault:
    """`nodes` is whom it touches; two faults at a time touch different nodes."""

    ends_processes = False

    def __init__(self, nodes, words):
        self.nodes, self.words = nodes, words
        self.began = self.healed = None
        # When gateways whose process it ended served again.
        self.back = {}

    def explains(self, gateway, began, ended):
        """All of its time, and a while after it."""
        return ended >= self.began and began <= max(self.healed + GRACE, self.back.get(gateway, 0))

    def explains_for_others(self, gateway, began, ended):
        """All of its time where the node itself is asked; else while it is news."""
        if gateway in self.nodes:
            return Fault.explains(self, gateway, began, ended)
        news = min(self.healed, self.began + DETECTION)
        return (ended >= self.began and began <= news) or (ended >= self.healed and began <= self.healed + GRACE)


class Partition(Fault):
    def __init__(self, some, rest, kind):
        self.pairs = [(a, b) for a in some for b in rest]
        if kind == "both ways":
            self.pairs += [(b, a) for a, b in self.pairs]
        elif kind == "in only":
            self.pairs = [(b, a) for a, b in self.pairs]
        super().__init__([*some, *rest], f"partition {'+'.join(some)} | {'+'.join(rest)}, {kind}")

    @classmethod
    def drawn(cls, mesh, draws):
        names = list(mesh.addresses)
        some = draws.sample(names, draws.randint(1, len(names) // 2))
        return cls(some, [name for name in names if name not in some], draws.choice(["both ways", "out only", "in only"]))

    def begin(self, mesh):
        for pair in self.pairs:
            mesh.block(*pair)

    def heal(self, mesh):
        for pair in self.pairs:
            mesh.unblock(*pair)


class NodeFault(Fault):
    """A fault of one node."""

    words_of = "fault of"

    def __init__(self, node):
        self.node = node
        super().__init__([node], f"{self.words_of} {node}")

    @classmethod
    def drawn(cls, mesh, draws):
        return cls(draws.choice(list(mesh.addresses)))

    explains = Fault.explains_for_others


class Kill(NodeFault):
    words_of = "kill -9"
    ends_processes = True

    def begin(self, mesh):
        mesh.processes[self.node].kill()
        mesh.processes[self.node].wait()

    def heal(self, mesh):
        mesh.start_node(self.node)


class KillAll(Fault):
    ends_processes = True

    def __init__(self, mesh):
        super().__init__(list(mesh.addresses), "kill -9 all nodes at once")

    @classmethod
    def drawn(cls, mesh, draws):
        return cls(mesh)

    def begin(self, mesh):
        for name in mesh.addresses:
            mesh.processes[name].kill()
        for name in mesh.addresses:
            mesh.processes[name].wait()

    def heal(self, mesh):
        for name in mesh.addresses:
            mesh.start_node(name)


class Restart(NodeFault):
    """Stopped in order: only who asks this very node while it is away notices."""

    words_of = "restart"
    ends_processes = True

    def begin(self, mesh):
        mesh.processes[self.node].send_signal(signal.SIGTERM)

    def heal(self, mesh):
        try:
            mesh.processes[self.node].wait(60)
        except subprocess.TimeoutExpired:
            raise RuntimeError(f"{self.node} did not stop within 60 s of SIGTERM") from None
        mesh.start_node(self.node)

    def explains(self, gateway, began, ended):
        return gateway == self.node and Fault.explains(self, gateway, began, ended)


class Pause(NodeFault):
    words_of = "pause"

    def begin(self, mesh):
        mesh.processes[self.node].send_signal(signal.SIGSTOP)

    def heal(self, mesh):
        mesh.processes[self.node].send_signal(signal.SIGCONT)


class FullDisk(NodeFault):
    words_of = "full disk on"

    def begin(self, mesh):
        try:
            with open(f"{mesh.disk(self.node)}/ballast", "wb", buffering=0) as out:
                while True:
                    out.write(bytes(1 << 16))
        except OSError:
            pass

    def heal(self, mesh):
        os.unlink(f"{mesh.disk(self.node)}/ballast")

    def explains(self, gateway, began, ended):
        return False


class SlowNetwork(Fault):
    def __init__(self, node, delay, loss):
        self.node, self.delay, self.loss = node, delay, loss
        super().__init__([node], f"{delay} ms delay and {loss} % loss at {node}")

    @classmethod
    def drawn(cls, mesh, draws):
        return cls(draws.choice(list(mesh.addresses)), draws.randint(20, 200), draws.randint(0, 10))

    def begin(self, mesh):
        subprocess.run(
            ["ip", "netns", "exec", self.node, "tc", "qdisc", "replace", "dev", "eth0", "root", "netem", "delay",
             f"{self.delay}ms", f"{self.delay // 4}ms", "loss", f"{self.loss}%"], check=True)

    def heal(self, mesh):
        subprocess.run(["ip", "netns", "exec", self.node, "tc", "qdisc", "del", "dev", "eth0", "root"], check=False)


def drawn_faults(mesh, draws):
    """(faults at one time, seconds they last, seconds of peace after them), without end."""
    kinds = [Partition, Kill, Pause, FullDisk, Restart]
    kinds = kinds * 3 + [KillAll] + ([SlowNetwork] * 3 if shutil.which("tc") and has_netem(mesh) else [])
    while True:
        together = [draws.choice(kinds).drawn(mesh, draws)]
        other = draws.choice(kinds).drawn(mesh, draws)
        if draws.random() < 0.4 and not set(other.nodes) & set(together[0].nodes):
            together.append(other)
        yield together, draws.uniform(0.5, 12), draws.uniform(0.5, 6)


def short_faults(mesh):
    """Each kind once, on three nodes."""
    n1, n2, n3 = mesh.addresses
    return [
        ([Partition([n1], [n2, n3], "both ways")], 4, 2), ([Partition([n2], [n1, n3], "out only")], 4, 2), ([Kill(n3)], 3, 2),
        ([Pause(n1)], 4, 2), ([FullDisk(n2)], 3, 2),
    ]


def has_netem(mesh):
    node = next(iter(mesh.addresses))
    command = ["ip", "netns", "exec", node, "tc", "qdisc"]
    works = subprocess.run([*command, "add", "dev", "lo", "root", "netem", "delay", "0ms"], capture_output=True).returncode == 0
    if works:
        subprocess.run([*command, "del", "dev", "lo", "root"], capture_output=True)
    return works


# What goes on meanwhile.


class Clients:
    """Writers of numbered values, readers who want what is decided, and readers who take what a node has."""

    def __init__(self, mesh, seed):
        self.mesh, self.done = mesh, threading.Event()
        self.lock, self.number = threading.Lock(), 0
        # Writes and consistent reads; and what nodes showed.
        self.history, self.views, self.refusals = [], [], {}
        works = [self.write] * 3 + [self.read_decided] * 2 + [self.read_shown]
        self.threads = [threading.Thread(target=self.repeat, args=(work, random.Random(seed + i))) for i, work in enumerate(works)]
        for thread in self.threads:
            thread.start()

    def repeat(self, work, draws):
        while not self.done.is_set():
            work(f"key-{draws.randrange(KEYS)}", draws.choice(list(self.mesh.addresses)))

    def write(self, key, node):
        with self.lock:
            self.number += 1
            number = self.number
        record = {"kind": "write", "key": key, "value": str(number), "node": node, "began": time.monotonic(), "revision": None}
        text = (
            f"apiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {{name: {key}}}\n"
            f'spec: {{hosts: [{key}.test], http: [{{name: "{number}", directResponse: {{status: 200}}}}]}}\n'
        )
        body = {"sources": [{"name": "chaos.yaml", "text": text}], "dryRun": False, "strict": False, "wait": False,
                "timeoutMilliseconds": 2000, "namespace": "default"}
        try:
            status, answer = self.mesh.admin(node, "POST", "/v1/apply", body)
            if status == 200:
                record["revision"] = answer["revision"]
                # A repeated request that found its work done: it was done at that revision or at an earlier one.
                record["repeated"] = all(change["action"] == "unchanged" for change in answer["changes"])
            else:
                record["refusal"] = answer.get("code")
        except (OSError, http.client.HTTPException, ValueError) as error:
            record["refusal"] = type(error).__name__
        self.note(record)
        time.sleep(0.02)

    def read_decided(self, key, node):
        record = {"kind": "read", "key": key, "node": node, "began": time.monotonic()}
        try:
            record["value"] = self.objects(node, f"&name={key}&consistent=true")[0].get(key, (0, None))[1]
            self.note(record)
        except (OSError, http.client.HTTPException, ValueError, KeyError, TypeError) as error:
            self.note({**record, "kind": "refused read", "refusal": str(error) if type(error) is ValueError else type(error).__name__})
        time.sleep(0.02)

    def read_shown(self, _, node):
        try:
            began = time.monotonic()
            objects, warning = self.objects(node)
            # What a node may show that heard from no leader since its start is older than before, and it says so.
            self.views.append((f"{node}, which warned at {began:.3f}," if warning else node, began, objects))
        except (OSError, http.client.HTTPException, ValueError, KeyError, TypeError):
            pass
        time.sleep(0.1)

    def note(self, record):
        record["ended"] = time.monotonic()
        with self.lock:
            self.history.append(record)
            if refusal := record.get("refusal"):
                key = f"{record['kind'].split()[-1]}: {refusal}"
                self.refusals[key] = self.refusals.get(key, 0) + 1

    def objects(self, node, more=""):
        status, objects, warning = self.mesh.ask(node, "GET", f"/v1/objects?kind=VirtualService{more}")
        if status != 200:
            raise ValueError(objects.get("code"))
        found = {}
        for stored in objects:
            if stored["name"].startswith("key-"):
                value = json.loads(stored["json"])["spec"]["http"][0]["name"]
                found[stored["name"]] = (stored["resourceVersion"], value)
        return found, warning

    def stop(self):
        self.done.set()
        for thread in self.threads:
            if thread.is_alive():
                thread.join()


class Operator:
    """Moves roles, takes nodes out of service and back, changes the gossip key, on any node that answers."""

    ROLES = ("configuration", "certificate-authority", "discovery")

    def __init__(self, mesh, seed):
        self.mesh, self.done, self.acts = mesh, threading.Event(), {}
        self.thread = threading.Thread(target=self.operate, args=(random.Random(seed + 1000),))
        self.thread.start()

    def operate(self, draws):
        names = list(self.mesh.addresses)
        while not self.done.wait(draws.uniform(1, 8)):
            act, node = draws.choice(["transfer", "transfer", "drain", "rotate"]), draws.choice(names)
            if act == "transfer":
                self.ask(act, names, draws, "/v1/roles/transfer", {"role": draws.choice(self.ROLES), "node": node})
            elif act == "rotate":
                self.ask(act, names, draws, "/v1/gossip/rotate", [])
            else:
                self.ask("drain", names, draws, "/v1/drain", {"name": node})
                self.done.wait(draws.uniform(0.5, 4))
                self.undrain(node)

    def undrain(self, node):
        """Until it is done, whoever does it: a node is not to stay out of service by a fault."""
        end = time.monotonic() + 120
        while time.monotonic() < end:
            for name in self.mesh.addresses:
                try:
                    if self.mesh.admin(name, "POST", "/v1/undrain", {"name": node}, timeout=20)[0] == 200:
                        return
                except (OSError, http.client.HTTPException, ValueError):
                    pass
                time.sleep(0.2)

    def ask(self, act, names, draws, path, body):
        try:
            status = self.mesh.admin(draws.choice(names), "POST", path, body, timeout=20)[0]
        except (OSError, http.client.HTTPException, ValueError):
            status = "no answer"
        word = f"{act}: {'done' if status == 200 else status}"
        self.acts[word] = self.acts.get(word, 0) + 1

    def stop(self):
        self.done.set()
        if self.thread.is_alive():
            self.thread.join()


class Traffic:
    """Steady requests through each gateway."""

    def __init__(self, mesh, gateways, per_second):
        self.mesh, self.done, self.pause = mesh, threading.Event(), 1 / per_second
        self.total, self.failures, self.successes = 0, [], {name: [] for name in gateways}
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
                if status == 200:
                    self.successes[gateway].append(time.monotonic())
                else:
                    self.failures.append((gateway, began, time.monotonic(), str(status)))
            except (OSError, http.client.HTTPException) as error:
                self.failures.append((gateway, began, time.monotonic(), type(error).__name__))
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


def judge(mesh, clients, traffic, operator, faults):
    acknowledged = [record for record in clients.history if record["kind"] == "write" and record["revision"]]
    unknown = [record for record in clients.history if record["kind"] == "write" and not record["revision"]]
    reads = [record for record in clients.history if record["kind"] == "read"]
    problems = order_problems(acknowledged)
    # A run in which nothing was done has shown nothing.
    done = {"write": len(acknowledged), "consistent read": len(reads), "request": traffic.total - len(traffic.failures)}
    problems += [f"no {what} succeeded in the whole run" for what, count in done.items() if count == 0]
    final = {name: clients.objects(name, "&consistent=true")[0] for name in mesh.addresses}
    first = final[next(iter(final))]
    problems += [f"{name} has other objects than the rest" for name, view in final.items() if view != first]
    problems += presence_problems(first, acknowledged, unknown)
    now = time.monotonic()
    operations = [
        history.Operation(r["key"], r["value"], r["began"], r["ended"], r["kind"] == "write", r["kind"] == "read" or bool(r["revision"]),
                          r["node"])
        for r in clients.history if r["kind"] in ("write", "read")
    ] + [history.Operation(key, value, now, now, False) for key, (_, value) in first.items()]
    problems += history.problems(operations)
    views = [*clients.views, *((name, now, view) for name, view in final.items())]
    problems += history.prefix_problems(views, [(record["key"], record["revision"]) for record in acknowledged if not record["repeated"]])[:10]
    for fault in (fault for fault in faults if fault.ends_processes):
        for gateway in set(fault.nodes) & set(GATEWAYS):
            later = (moment for moment in traffic.successes[gateway] if moment > fault.healed)
            fault.back[gateway] = min(next(later, now), fault.healed + RETURN)
    unexplained = [failure for failure in traffic.failures if not any(fault.explains(*failure[:3]) for fault in faults)]
    start = faults[0].began if faults else now
    problems += [
        f"request through {gateway} failed ({why}) at {began - start:.1f} s for {ended - began:.2f} s; no fault explains it"
        for gateway, began, ended, why in unexplained[:10]
    ]
    return problems, {
        "faults": len(faults), "writes_acknowledged": len(acknowledged),
        "acknowledged_when_repeated": sum(record["repeated"] for record in acknowledged), "writes_refused_or_unknown": len(unknown),
        "consistent_reads": len(reads), "views": len(clients.views), "longest_time_without_a_write_s": longest_gap(acknowledged),
        "requests": traffic.total, "requests_failed": len(traffic.failures), "requests_failed_unexplained": len(unexplained),
        "operator": operator.acts if operator else {}, "refusals": clients.refusals,
        "failures": {why: sum(f[3] == why for f in traffic.failures) for why in sorted({f[3] for f in traffic.failures})},
    }


def longest_gap(acknowledged):
    ends = sorted(record["ended"] for record in acknowledged)
    return round(max((later - earlier for earlier, later in zip(ends, ends[1:])), default=0), 3)


def order_problems(acknowledged):
    """A write that began after another was acknowledged comes later in the log."""
    problems, by_revision = [], {}
    for record in acknowledged:
        if record["repeated"]:
            continue
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
        last = max((record for record in acknowledged if record["key"] == key), key=lambda record: (record["revision"], not record["repeated"]))
        version, value = objects.get(key, (0, None))
        late = {record["value"] for record in unknown if record["key"] == key}
        if value != last["value"] and not (value in late and version > last["revision"]):
            problems.append(f"{key} is {value} at {version}; the last acknowledged write was {last['value']} at {last['revision']}")
    return problems


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
        eventually(lambda: all_serve(mesh), "all applications answer through both gateways", 120)
        clients, traffic = Clients(mesh, options.seed), Traffic(mesh, GATEWAYS, 20)
        operator = None if options.short else Operator(mesh, options.seed)
        parts = [part for part in (operator, clients, traffic) if part]
        try:
            started = time.monotonic()
            plan = short_faults(mesh) if options.short else drawn_faults(mesh, draws)
            for together, length, peace in plan:
                if not options.short and time.monotonic() > started + options.minutes * 60:
                    break
                inflict(mesh, together, length, faults, started, options)
                time.sleep(peace)
            # What changes all the time cannot be equal everywhere at one moment.
            if operator:
                operator.stop()
            clients.stop()
            await_agreement(mesh, "after the last fault")
            # Until then a fault of consensus or membership may have its consequences.
            time.sleep(2 * GRACE)
        finally:
            for part in parts:
                part.stop()
        problems, numbers = judge(mesh, clients, traffic, operator, faults)
        problems += [f"{name} ended by itself" for name in mesh.addresses if mesh.processes[name].poll() is not None]
        if problems:
            for name in mesh.addresses:
                print(mesh.log(name, 400 if options.output == "table" else 60), file=sys.stderr)
        return problems, numbers


def inflict(mesh, together, length, faults, started, options):
    if options.output == "table":
        words = "; ".join(fault.words for fault in together)
        print(f"{time.monotonic() - started:7.1f} s  {words}, {length:.1f} s", flush=True)
    for fault in together:
        fault.began, fault.healed = time.monotonic(), float("inf")
        faults.append(fault)
        fault.begin(mesh)
    time.sleep(length)
    for fault in together:
        fault.heal(mesh)
        fault.healed = time.monotonic()


def all_serve(mesh):
    """All nodes know all applications as healthy, and the gateways answer."""
    try:
        for node in mesh.addresses:
            status, services = mesh.admin(node, "GET", "/v1/services")
            echo = next(service for service in services if service["name"] == "echo")
            if sum(endpoint["health"] == "healthy" for endpoint in echo["endpoints"]) != len(mesh.addresses):
                return False
        return all(ask_gateway(mesh, gateway) == 200 for gateway in GATEWAYS)
    except (OSError, http.client.HTTPException, ValueError, StopIteration, KeyError):
        return False


def ask_gateway(mesh, gateway):
    connection = http.client.HTTPConnection(mesh.addresses[gateway], GATEWAY_PORT, timeout=5)
    try:
        connection.request("GET", "/", headers={"Host": "echo.test"})
        return connection.getresponse().status
    finally:
        connection.close()


def cannot_run():
    """Why there can be no hosts of its own here; None when there can."""
    if os.geteuid() != 0:
        return "it needs root"
    for program in ("ip", "unshare", "mount"):
        if not shutil.which(program):
            return f"it needs {program} (Debian: iproute2 util-linux)"
    tried = subprocess.run([*NAMESPACES, "sh", "-c", "mount -t tmpfs tmpfs /mnt && ip link add name trial type bridge && ip link add name left type veth peer name right"],
                           capture_output=True, text=True)
    return None if tried.returncode == 0 else f"namespaces, tmpfs, bridges and veth pairs cannot be made here: {tried.stderr.strip()}"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("program", metavar="MESH_NODE")
    parser.add_argument("--minutes", type=float, default=5)
    parser.add_argument("--seed", type=int, default=int(time.time()))
    parser.add_argument("--nodes", type=int)
    parser.add_argument("--short", action="store_true", help="a fixed list of faults instead of drawn ones")
    parser.add_argument("-o", "--output", choices=["table", "json"], default="table")
    options = parser.parse_args()
    options.program = os.path.abspath(options.program)
    options.nodes = options.nodes or (3 if options.short else 5)
    if INSIDE not in os.environ:
        history.check_known_histories()
        if why := cannot_run():
            print(f"skipped: chaos needs hosts of its own, and {why}")
            sys.exit(0)
        os.execvpe("unshare", [*NAMESPACES, sys.executable, *sys.argv, "--seed", str(options.seed)], {**os.environ, INSIDE: "1"})
    os.makedirs("/run/netns", exist_ok=True)
    subprocess.run(["mount", "-t", "tmpfs", "tmpfs", "/run/netns"], check=True)
    if options.output == "table":
        print(f"{options.nodes} nodes, " + ("fixed faults" if options.short else f"seed {options.seed}, {options.minutes} minutes"), flush=True)
    problems, numbers = run(options)
    if options.output == "json":
        print(json.dumps({"seed": options.seed, "problems": problems, **numbers}, indent=2))
    else:
        print("\n" + "\n".join(f"  {key:30} {value}" for key, value in numbers.items()))
        print("\n".join(f"PROBLEM  {problem}" for problem in problems) or "no problem found")
    sys.exit(1 if problems else 0)


if __name__ == "__main__":
    main()
