"""Measures remote actor calls beside Erlang's distribution over TLS and gRPC in Go: two processes and one connection each.

usage: bench.py BENCH_ACTORS [--quick] [--only NAME] [-o json] [--write docs/benchmarks.md]
"""

import argparse
import json
import os
import random
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import time

HERE = os.path.dirname(os.path.abspath(__file__))
BEGIN, END = "<!-- actors: begin -->", "<!-- actors: end -->"
PACKAGES = {"erl": ["erlang-base", "erlang-ssl"], "go": ["golang-go", "golang-google-grpc-dev"]}
GO_SOURCES = "/usr/share/gocode"
TICKS = os.sysconf("SC_CLK_TCK")


def note(text):
    print(text, file=sys.stderr, flush=True)


class Process:
    """One end: told by lines what to do, and answering by lines of JSON."""

    def __init__(self, command, environment=None):
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
                                        env={**os.environ, **(environment or {})})
        self.answer()

    def answer(self):
        while True:
            line = self.process.stdout.readline()
            if not line:
                raise RuntimeError("it ended early")
            if line.startswith("{"):
                return json.loads(line)
            note(line.rstrip())

    def ask(self, line):
        self.process.stdin.write(line + "\n")
        self.process.stdin.flush()
        return self.answer()

    def seconds(self):
        """Processor time so far, the kernel's included."""
        with open(f"/proc/{self.process.pid}/stat") as file:
            fields = file.read().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / TICKS

    def end(self):
        self.process.stdin.close()
        try:
            self.process.wait(5)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


class Ours:
    name = "mesh-node"

    def __init__(self, site):
        self.server = Process([site.program, "server", site.address(1)])
        self.client = Process([site.program, "client", site.address(2), site.address(1)])


class Go:
    name = "gRPC (Go)"

    def __init__(self, site):
        program = os.path.join(site.folder, "echo-go")
        subprocess.run(["go", "build", "-o", program, os.path.join(HERE, "Peers", "echo.go")], check=True, env={
            **os.environ, "GO111MODULE": "off", "GOPATH": GO_SOURCES, "GOCACHE": os.path.join(site.folder, "go-cache"),
            "GOFLAGS": ""})
        self.server = Process([program, "server", site.address(3), site.folder])
        self.client = Process([program, "client", site.address(3), site.folder])


class Erlang:
    name = "Erlang over TLS"

    def __init__(self, site):
        shutil.copy(os.path.join(HERE, "Peers", "echo.erl"), site.folder)
        subprocess.run(["erlc", "-o", site.folder, os.path.join(site.folder, "echo.erl")], check=True)
        self.server = self.start(site, "server", 5, ["-s", "echo", "server"])
        self.client = self.start(site, "client", 6, ["-s", "echo", "client", f"server@{site.host(5)}"])

    def start(self, site, name, number, run):
        host = site.host(number)
        options = os.path.join(site.folder, f"{name}.conf")
        both = f"""{{cacertfile, "{site.folder}/authority.pem"}}, {{certfile, "{site.folder}/{name}.pem"}},
          {{keyfile, "{site.folder}/{name}.key"}}, {{verify, verify_peer}}, {{versions, ['tlsv1.3']}},
          {{ciphers, ["TLS_AES_128_GCM_SHA256"]}}"""
        with open(options, "w") as file:
            file.write(f"[{{server, [{both}, {{fail_if_no_peer_cert, true}}]}},\n"
                       f" {{client, [{both}]}}].\n")
        address = host.replace(".", ",")
        return Process(["erl", "-noshell", "-pa", site.folder, "-name", f"{name}@{host}", "-setcookie", "bench",
                        "-start_epmd", "false", "-erl_epmd_port", str(site.port), "-proto_dist", "inet_tls",
                        "-ssl_dist_optfile", options, "-kernel", "inet_dist_use_interface", f"{{{address}}}", *run],
                       {"HOME": site.folder})


class Site:
    """Addresses and certificates of one run."""

    def __init__(self, program):
        self.program = program
        self.folder = tempfile.mkdtemp(prefix="bench-actors-")
        self.network = f"127.{random.randint(16, 90)}.{random.randint(1, 250)}"
        self.port = random.randint(20000, 30000)
        self.certify()

    def host(self, number):
        return f"{self.network}.{number}"

    def address(self, number):
        return f"{self.host(number)}:{self.port}"

    def certify(self):
        def openssl(*arguments):
            subprocess.run(["openssl", *arguments], check=True, capture_output=True, cwd=self.folder)

        curve = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"]
        openssl("req", "-x509", *curve, "-keyout", "authority.key", "-out", "authority.pem", "-days", "2", "-subj", "/CN=bench")
        for name in ["server", "client"]:
            openssl("req", *curve, "-keyout", f"{name}.key", "-out", f"{name}.csr", "-subj", f"/CN={name}")
            with open(os.path.join(self.folder, "names"), "w") as file:
                # Erlang looks for the host among the names, not among the addresses.
                file.write(f"subjectAltName=DNS:{name},DNS:{self.host(5 if name == 'server' else 6)}\n")
            openssl("x509", "-req", "-in", f"{name}.csr", "-CA", "authority.pem", "-CAkey", "authority.key", "-days", "2",
                    "-CAcreateserial", "-extfile", "names", "-out", f"{name}.pem")


def is_there(tool):
    if tool == "go" and not os.path.isdir(f"{GO_SOURCES}/src/google.golang.org/grpc"):
        return False
    return shutil.which(tool) is not None


def install(tool):
    """Brings a peer where that is possible; whether it is there."""
    if is_there(tool):
        return True
    packages = PACKAGES[tool]
    if os.geteuid() == 0 and shutil.which("apt-get"):
        note(f"installing {' '.join(packages)}")
        subprocess.run(["apt-get", "install", "-y", "-qq", "--no-install-recommends", *packages], stdout=subprocess.DEVNULL,
                       stderr=subprocess.DEVNULL)
    if not is_there(tool):
        note(f"left out, because it is not installed: {' '.join(packages)}")
    return is_there(tool)


class Bench:
    def __init__(self, options):
        self.site = Site(options.program)
        self.seconds, self.rounds = (1, 1) if options.quick else (3, 3)
        self.megabytes = 100 if options.quick else 1_024
        self.only, self.peers, self.calls, self.lanes = options.only, [], {}, None

    def start(self):
        kinds = [Ours] + ([Erlang] if install("erl") else []) + ([Go] if install("go") else [])
        for kind in kinds:
            if self.only and self.only not in kind.name:
                continue
            try:
                self.peers.append(kind(self.site))
            except (RuntimeError, subprocess.CalledProcessError) as error:
                note(f"{kind.name} is left out: {error}")

    def measure(self, peer, size, concurrency, seconds):
        before = [end.seconds() for end in (peer.server, peer.client)]
        answer = peer.client.ask(f"calls {size} {concurrency} {seconds}")
        after = [end.seconds() for end in (peer.server, peer.client)]
        answer["cpu"] = (sum(after) - sum(before)) * 1e6 / max(1, answer["calls"])
        answer["rate"] = answer["calls"] / answer["seconds"]
        return answer

    def run(self):
        self.start()
        for peer in self.peers:
            self.measure(peer, 100, 64, 1)
        for size in (100, 10_000):
            for concurrency in (1, 64, 1_000):
                for _ in range(self.rounds):
                    for peer in self.peers:
                        self.calls.setdefault((size, concurrency, peer.name), []).append(
                            self.measure(peer, size, concurrency, self.seconds))
        if not self.only:
            self.lanes = self.peers[0].client.ask(f"lanes {self.megabytes}")

    def end(self):
        for peer in self.peers:
            peer.client.end()
            peer.server.end()
        shutil.rmtree(self.site.folder, ignore_errors=True)

    def rows(self):
        for (size, concurrency, name), rounds in self.calls.items():
            middle = {key: statistics.median(each[key] for each in rounds) for key in rounds[0]}
            yield {"bytes": size, "concurrency": concurrency, "peer": name, "cpuMicroseconds": round(middle["cpu"], 1),
                   "callsPerSecond": round(middle["rate"]), "p50Microseconds": middle["p50"],
                   "p99Microseconds": middle["p99"]}

    def table(self):
        rows = list(self.rows())
        own = {(row["bytes"], row["concurrency"]): row["cpuMicroseconds"] for row in rows if row["peer"] == Ours.name}
        lines = ["| argument and result | calls under way | peer | CPU, µs a call | to mesh-node | calls a second | p50, ms | p99, ms |",
                 "|---|---|---|---|---|---|---|---|"]
        for row in rows:
            ratio = row["cpuMicroseconds"] / own.get((row["bytes"], row["concurrency"]), row["cpuMicroseconds"])
            lines.append(
                f"| {row['bytes']:,} B | {row['concurrency']:,} | {row['peer']} | {row['cpuMicroseconds']:.1f} | {ratio:.2f} "
                f"| {row['callsPerSecond']:,} | {row['p50Microseconds'] / 1000:.2f} | {row['p99Microseconds'] / 1000:.2f} |")
        if self.lanes:
            idle, bulk = self.lanes["idle"], self.lanes["bulk"]
            lines += ["", "| round trip of an urgent frame | p50, ms | p99, ms | frames |", "|---|---|---|---|",
                      f"| on the idle link | {idle['p50'] / 1000:.2f} | {idle['p99'] / 1000:.2f} | {idle['count']:,} |",
                      f"| while {self.lanes['megabytes']:,} MiB go the same way as bulk, in {self.lanes['seconds']:.1f} s "
                      f"| {bulk['p50'] / 1000:.2f} | {bulk['p99'] / 1000:.2f} | {bulk['count']:,} |"]
        return "\n".join(lines)


def versions():
    found = []
    if is_there("erl"):
        release = subprocess.run(["erl", "-noshell", "-eval", "io:put_chars(erlang:system_info(otp_release)), halt()."],
                                 capture_output=True, text=True).stdout
        found.append(f"Erlang/OTP {release}")
    if is_there("go"):
        go = re.search(r"go[\d.]+", subprocess.run(["go", "version"], capture_output=True, text=True).stdout)
        package = subprocess.run(["dpkg-query", "-W", "-f=${Version}", "golang-google-grpc-dev"], capture_output=True, text=True)
        found.append(f"gRPC-Go {package.stdout} ({go.group(0) if go else 'go'})")
    return ", ".join(found)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("program")
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--only")
    parser.add_argument("-o", choices=["table", "json"], default="table")
    parser.add_argument("--write")
    options = parser.parse_args()
    bench = Bench(options)
    try:
        bench.run()
    finally:
        bench.end()
    when = time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime())
    if options.o == "json":
        print(json.dumps({"measured": when, "peers": versions(), "calls": list(bench.rows()), "lanes": bench.lanes}, indent=2))
    else:
        print(bench.table())
    if options.write:
        with open(options.write) as file:
            text = file.read()
        head, rest = text.split(BEGIN, 1)
        tail = rest.split(END, 1)[1]
        said = f"Measured {when} on {os.cpu_count()} cores; {versions()}."
        with open(options.write, "w") as file:
            file.write(f"{head}{BEGIN}\n{said}\n\n{bench.table()}\n{END}{tail}")


main()
