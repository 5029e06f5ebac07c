"""Measures mesh-node beside Envoy, nginx and HAProxy: the same work through each in turn, in one run, several rounds.

usage: bench.py MESH_NODE MESH_LOAD [--quick] [--only NAME] [--write docs/benchmarks.md]
"""

import json
import os
import random
import re
import shutil
import statistics
import subprocess
import sys
import tempfile

from peers import (Envoy, EnvoyScaled, EnvoyTwoHops, HAProxy, HAProxyScaled, Nginx, NginxScaled, Ours, OursOnCores,
                   OursScaled, OursTwoHops, Site, answers, eventually, time, version)

BEGIN, END = "<!-- measured: begin -->", "<!-- measured: end -->"


class Bench:
    def __init__(self, mesh_node, mesh_load, quick, only):
        self.mesh_node, self.mesh_load, self.quick, self.only = mesh_node, mesh_load, quick, only
        self.seconds, self.rounds = (1, 1) if quick else (2, 3)
        self.results, self.notes = {}, []
        self.directory = tempfile.mkdtemp(prefix="mesh-bench-")
        network = f"127.{random.randint(16, 90)}.{random.randint(0, 254)}"
        self.site = Site(self.directory, network, random.randint(20000, 30000))

    def wanted(self, name):
        return not self.only or self.only in name

    # MARK: Loads

    def load(self, *arguments):
        """Runs mesh-load on the second core and reads its line of JSON."""
        done = subprocess.run(["taskset", "-c", "1", self.mesh_load, *map(str, arguments)], capture_output=True, text=True,
                              timeout=120)
        if done.returncode != 0:
            raise RuntimeError(done.stderr.strip().splitlines()[0] if done.stderr else "mesh-load failed")
        return json.loads(done.stdout.strip().splitlines()[-1])

    def http(self, peer, work="http", path="/bytes/1024", connections=64, host="origin.bench", rate=0, seconds=None):
        address, port = peer.target(work)
        return self.load("http", "--to", f"{address}:{port}", "--path", path, "--connections", connections, "--host", host,
                         "--rate", rate, "--seconds", seconds or self.seconds)

    def h2load(self, peer, work, *options, path="/bytes/1024", clients=8, streams=8):
        address, port = peer.target(work)
        command = ["taskset", "-c", "1", "h2load", "-t", "1", "-c", clients, "-m", streams, "-D", self.seconds, *options,
                   f"http://{address}:{port}{path}"]
        text = subprocess.run(list(map(str, command)), capture_output=True, text=True, timeout=120).stdout
        done = re.search(r"(\d+) succeeded, (\d+) failed, (\d+) errored", text)
        if not done or int(done.group(1)) == 0:
            raise RuntimeError("no call succeeded")
        rate = re.search(r"([\d.]+) req/s", text)
        return {"requests": int(done.group(1)), "errors": int(done.group(2)) + int(done.group(3)), "perSecond": int(float(rate.group(1)))}

    # MARK: Measuring

    def measure(self, scenario, peers, load, unit="requests", rounds=None):
        """One scenario over all peers, in turn, `rounds` times."""
        if not self.wanted(scenario):
            return
        for turn in range(rounds or self.rounds):
            for peer in peers:
                if (scenario, peer.name) in self.failed:
                    continue
                before = peer.cpu_seconds()
                try:
                    result = load(peer)
                    if result["requests"] <= result.get("errors", 0):
                        raise RuntimeError(f"{result.get('errors', 0)} errors and {result['requests']} answers")
                except (RuntimeError, subprocess.TimeoutExpired, json.JSONDecodeError) as error:
                    self.failed.add((scenario, peer.name))
                    self.notes.append(f"{scenario}: {peer.name} left out ({error})")
                    continue
                result["cpu"] = (peer.cpu_seconds() - before) * 1e6 / max(1, result["requests"])
                if result.get("errors"):
                    self.notes.append(f"{scenario}: {peer.name}, round {turn + 1}: {result['errors']} errors")
                self.results.setdefault(scenario, {}).setdefault(peer.name, []).append(result)
                print(f"  {scenario:34} {peer.name:16} {result['cpu']:8.1f} µs  {result['perSecond']:>10}/s"
                      + (f"  p50 {result['p50']} p99 {result['p99']} p99.9 {result['p999']} µs" if "p99" in result else "")
                      + (f"  {result['errors']} errors" if result.get("errors") else ""), flush=True)

    failed = set()

    def start(self, peers):
        running = []
        for peer in peers:
            try:
                peer.start()
                for work in peer.does:
                    address, port = peer.target(work)
                    eventually(lambda: answers(address, port), f"{peer.name} listens on {address}:{port} for {work}", 60)
                running.append(peer)
            except (OSError, TimeoutError, RuntimeError) as error:
                self.notes.append(f"{peer.name} is left out: {error}")
                print(f"  {peer.name} is left out: {error}", flush=True)
                peer.stop()
        return running

    def with_peers(self, peers, work):
        running = []
        try:
            running = self.start(peers)
            work(running)
        finally:
            for peer in running:
                peer.stop()

    def able(self, peers, work):
        return [peer for peer in peers if work in peer.does]

    # MARK: Work

    def one_hop(self, peers):
        for peer in peers:
            eventually(lambda: self.is_served(peer), f"{peer.name} answers", 30)
        self.memory("memory, idle", peers)
        web = self.able(peers, "http")
        # First, while no proxy has memory left from busier times.
        self.idle("memory, one idle connection", web)
        self.measure("HTTP/1.1, 1 KB, 64 connections", web, lambda peer: self.http(peer))
        for connections in (1, 2000):
            self.measure(f"HTTP/1.1, 1 KB, {connections:,} connection{'s'[:connections - 1]}", web,
                         lambda peer: self.http(peer, connections=connections), rounds=2)
        self.measure("HTTP/1.1, 64 KB, 64 connections", web, lambda peer: self.http(peer, path="/bytes/65536"), rounds=2)
        self.measure("HTTP/1.1, 10 MB, 8 connections", web,
                     lambda peer: self.http(peer, path="/bytes/10485760", connections=8), rounds=2)
        self.measure("HTTP/2, 1 KB, 8 × 8 streams", self.able(peers, "http2"), lambda peer: self.h2load(peer, "http2"))
        body = self.messages("one.bin", 1)
        call = ("-H", "content-type: application/grpc", "-H", "te: trailers", "-d")
        self.measure("gRPC, unary", self.able(peers, "grpc"),
                     lambda peer: self.h2load(peer, "grpc", *call, body, path="/bench.Echo/Call"))
        stream = self.messages("stream.bin", 64)
        self.measure("gRPC, 64 messages both ways", self.able(peers, "grpc"),
                     lambda peer: self.h2load(peer, "grpc", *call, stream, path="/bench.Echo/Stream"), rounds=2)
        self.measure("new connections, plain", web, lambda peer: self.connect(peer, "http"), rounds=2)
        self.measure("new connections, TLS 1.3", self.able(peers, "tls"),
                     lambda peer: self.connect(peer, "tls", "--tls", "bench.example"), rounds=2)
        self.measure("TCP, MB one way, 4 connections", self.able(peers, "tcp"), self.push, rounds=2)
        rate = 4000
        self.measure(f"one hop at {rate}/s, open loop", web,
                     lambda peer: self.http(peer, rate=rate, connections=128, seconds=self.seconds * 2), rounds=2)

    def is_served(self, peer):
        try:
            return self.http(peer, connections=1, seconds=1)["errors"] == 0
        except RuntimeError:
            return False

    def messages(self, name, count):
        """gRPC messages of 1,000 bytes, framed, as one body."""
        path = os.path.join(self.directory, name)
        with open(path, "wb") as out:
            for _ in range(count):
                out.write(b"\0" + (1000).to_bytes(4, "big") + b"a" * 1000)
        return path

    def connect(self, peer, work, *options):
        address, port = peer.target(work)
        return self.load("connect", "--to", f"{address}:{port}", "--seconds", self.seconds, "--connections", 16, *options)

    def push(self, peer):
        address, port = peer.target("tcp")
        return self.load("push", "--to", f"{address}:{port}", "--seconds", self.seconds)

    def two_hops(self, peers):
        def load(peer, **options):
            return self.http(peer, work="mesh", host="echo:9080", **options)

        for peer in peers:
            eventually(lambda: self.is_meshed(peer), f"{peer.name} answers by two hops", 60)
        self.measure("two hops with mTLS, 1 KB, 64 connections", peers, load)
        rate = 3000
        self.measure(f"two hops at {rate}/s, open loop", peers,
                     lambda peer: load(peer, rate=rate, connections=128, seconds=self.seconds * 2), rounds=2)

    def is_meshed(self, peer):
        try:
            return self.http(peer, work="mesh", host="echo:9080", connections=1, seconds=1)["errors"] == 0
        except RuntimeError:
            return False

    def scaled(self, peers):
        host = f"s{self.site.scale_services * 3 // 4}.bench"
        for peer in peers:
            eventually(lambda: self.http(peer, connections=1, seconds=1, host=host)["errors"] == 0, f"{peer.name} answers", 90)
        self.memory("memory, 1,000 routes and 10,000 endpoints", peers)
        self.measure("1,000 routes, 10,000 endpoints, 64 connections", peers, lambda peer: self.http(peer, host=host), rounds=2)

    def workers(self, peers):
        """Whether more workers carry more, and carry equal shares; load and origin take part of the same cores."""
        for peer in peers:
            eventually(lambda: self.is_served(peer), f"{peer.name} answers", 30)
        for connections in (64, 2000):
            scenario = f"workers on all cores, {connections:,} connections"

            def load(peer):
                before = peer.busy_seconds()
                result = self.http(peer, connections=connections)
                busy = [after - one for one, after in zip(before, peer.busy_seconds())]
                result["busiest"] = max(busy) / max(1e-9, sum(busy))
                return result

            self.measure(scenario, peers, load, rounds=2)

    # MARK: Memory

    def memory(self, name, peers):
        if not self.wanted(name):
            return
        for peer in peers:
            self.note_memory(name, peer, peer.resident_bytes())

    def note_memory(self, name, peer, count):
        self.results.setdefault(name, {})[peer.name] = [{"bytes": count}]
        print(f"  {name:34} {peer.name:16} {count / 1e6:8.1f} MB" if count > 1e6 else
              f"  {name:34} {peer.name:16} {count / 1024:8.1f} KB", flush=True)

    def idle(self, name, peers):
        """What 10,000 connections cost that did one request each."""
        if not self.wanted(name):
            return
        count = 1000 if self.quick else 9000
        for peer in peers:
            address, port = peer.target("http")
            before = peer.resident_bytes()
            client = subprocess.Popen(["taskset", "-c", "1", self.mesh_load, "idle", "--to", f"{address}:{port}",
                                       "--connections", str(count)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
            try:
                if "idle" in client.stdout.readline():
                    time.sleep(0.5)
                    self.note_memory(name, peer, max(1, peer.resident_bytes() - before) / count)
                else:
                    self.notes.append(f"{name}: {peer.name} did not keep {count} connections")
            finally:
                client.stdin.close()
                client.wait(30)

    # MARK: The run

    def run(self):
        origin = subprocess.Popen(
            ["taskset", "-c", "1", self.mesh_load, "origin", "--listen", f"0.0.0.0:{self.site.origin_port}",
             "--sink", f"{self.site.origin}:{self.site.sink_port}"], stdout=subprocess.PIPE, text=True)
        try:
            if origin.stdout.readline().strip() != "listening":
                raise RuntimeError("the origin did not start")
            site, have_envoy = self.site, version("envoy", "--version")
            have = {Nginx: version("nginx", "-v"), HAProxy: version("haproxy", "-v"), Envoy: have_envoy}
            for kind, found in have.items():
                if not found:
                    self.notes.append(f"{kind.name} is not installed here")

            def present(*peers):
                return [peer for peer in peers if all(have[kind] for kind in have if isinstance(peer, kind))]

            self.with_peers(present(Ours(site, 1, self.mesh_node), Nginx(site, 11), HAProxy(site, 12), Envoy(site, 13)), self.one_hop)
            self.with_peers(present(OursTwoHops(site, 21, self.mesh_node), EnvoyTwoHops(site, 31, http2=False),
                                    EnvoyTwoHops(site, 32, http2=True)), self.two_hops)
            if not self.only or "workers" in self.only:
                self.with_peers([OursOnCores(site, 61, self.mesh_node, 1), OursOnCores(site, 62, self.mesh_node, os.cpu_count())],
                                self.workers)
            if self.wanted("1,000 routes and 10,000 endpoints") or self.wanted("memory, 1,000 routes and 10,000 endpoints"):
                self.with_peers(present(OursScaled(site, 41, self.mesh_node), NginxScaled(site, 51), HAProxyScaled(site, 52),
                                        EnvoyScaled(site, 53)), self.scaled)
        finally:
            origin.kill()
            origin.wait()
            if os.environ.get("KEEP"):
                print(f"logs in {self.directory}")
            else:
                shutil.rmtree(self.directory, ignore_errors=True)

    # MARK: The report

    def medians(self, scenario):
        table = {}
        for name, rounds in self.results[scenario].items():
            table[name] = {key: statistics.median(one[key] for one in rounds) for key in rounds[0] if key != "errors"}
        return table

    def report(self):
        lines = [f"Measured {time.strftime('%Y-%m-%d %H:%M', time.gmtime())} UTC on {machine()}; {versions(self.mesh_node)}.", ""]
        lines += ["| work | proxy | CPU, µs each | to mesh-node | each second | p50 / p99 / p99.9, ms |", "|---|---|---|---|---|---|"]
        spread = ["", "| workers | CPU, µs each | requests each second | busiest worker's share |", "|---|---|---|---|"]
        memory = ["", "| memory | proxy | amount | to mesh-node |", "|---|---|---|---|"]
        for scenario in self.results:
            table = self.medians(scenario)
            ours = table.get("mesh-node")
            for name, one in table.items():
                if "bytes" in one:
                    ratio = f"{one['bytes'] / ours['bytes']:.2f}" if ours else ""
                    amount = f"{one['bytes'] / 1e6:.1f} MB" if one["bytes"] > 1e6 else f"{one['bytes'] / 1024:.1f} KB"
                    memory.append(f"| {scenario} | {name} | {amount} | {ratio} |")
                    continue
                if "busiest" in one:
                    spread.append(f"| {name}, {scenario.split(', ', 1)[1]} | {one['cpu']:.1f} | {int(one['perSecond']):,} | {one['busiest']:.0%} |")
                    continue
                ratio = f"{one['cpu'] / ours['cpu']:.2f}" if ours else ""
                latency = f"{one['p50'] / 1000:.2f} / {one['p99'] / 1000:.2f} / {one['p999'] / 1000:.2f}" if "p50" in one else ""
                lines.append(f"| {scenario} | {name} | {one['cpu']:.1f} | {ratio} | {int(one['perSecond']):,} | {latency} |")
        if self.notes:
            memory += ["", "Said during the run:", ""] + [f"- {note}" for note in dict.fromkeys(self.notes)]
        return "\n".join(lines + (spread if len(spread) > 3 else []) + memory)


def machine():
    with open("/proc/cpuinfo") as info:
        model = next((line.split(":", 1)[1].strip() for line in info if line.startswith("model name")), "an unknown processor")
    return f"{os.cpu_count()} cores ({model}), Linux {os.uname().release}"


def versions(mesh_node):
    found = [version(mesh_node, "version", "-o", "json") and "mesh-node of this commit", version("nginx", "-v"), version("haproxy", "-v"),
             version("envoy", "--version"), version("h2load", "--version")]
    names = []
    for text in found:
        if text:
            text = re.sub(r"nginx version: nginx/", "nginx ", text)
            text = re.sub(r"HAProxy version (\S+).*", r"HAProxy \1", text)
            text = re.sub(r".*envoy +version: [0-9a-f]+/([\d.]+)/.*", r"Envoy \1", text)
            names.append(text)
    return ", ".join(names)


def main():
    arguments = sys.argv[1:]
    write = arguments.index("--write") if "--write" in arguments else None
    target = arguments[write + 1] if write is not None else None
    only = arguments[arguments.index("--only") + 1] if "--only" in arguments else ""
    bench = Bench(os.path.abspath(arguments[0]), os.path.abspath(arguments[1]), "--quick" in arguments, only)
    began = time.monotonic()
    try:
        bench.run()
    finally:
        report = bench.report()
        print("\n" + report + f"\n\n{time.monotonic() - began:.0f} s")
    if target:
        with open(target) as source:
            text = source.read()
        head, rest = text.split(BEGIN, 1)
        with open(target, "w") as out:
            out.write(head + BEGIN + "\n" + report + "\n" + END + rest.split(END, 1)[1])


if __name__ == "__main__":
    main()
