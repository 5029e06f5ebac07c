"""The proxies that are measured: each does the same work, on one worker thread, with metrics as it has them."""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "RealProcesses"))
from mesh import Mesh, eventually  # noqa: E402

HTTP, GRPC, TCP, TLS = 8080, 8082, 8084, 8443
CLOSED_BY = 20


class Site:
    """Addresses, certificates and directories of one run."""

    def __init__(self, directory, network, origin_port):
        self.directory, self.network = directory, network
        self.origin = f"{network}.200"
        self.origin_port, self.sink_port = origin_port, origin_port + 1
        self.scale_services, self.scale_endpoints = 1000, 10
        self.make_certificates()

    def address(self, host):
        return f"{self.network}.{host}"

    def path(self, name):
        return os.path.join(self.directory, name)

    def endpoint(self, service, index):
        """Ten thousand different addresses, which are all the origin's."""
        number = service * self.scale_endpoints + index
        return f"127.{100 + number // 62500}.{number // 250 % 250}.{number % 250 + 1}"

    def make_certificates(self):
        """One authority, and one leaf that is server and client."""
        def openssl(*arguments):
            subprocess.run(["openssl", *arguments], check=True, capture_output=True, cwd=self.directory)
        new_key = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
        openssl("req", "-x509", *new_key, "-keyout", "ca.key", "-out", "ca.pem", "-days", "2", "-subj", "/CN=bench")
        openssl("req", *new_key, "-keyout", "leaf.key", "-out", "leaf.csr", "-subj", "/CN=bench.example")
        with open(self.path("leaf.ext"), "w") as out:
            out.write("subjectAltName=DNS:bench.example\n")
        openssl("x509", "-req", "-in", "leaf.csr", "-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial",
                "-out", "leaf.pem", "-days", "2", "-extfile", "leaf.ext")
        with open(self.path("pair.pem"), "w") as out:
            for name in ("leaf.pem", "leaf.key"):
                out.write(open(self.path(name)).read())


class Peer:
    """A proxy, perhaps of several processes; `does` names the work it can do."""

    name = ""
    does = ()

    def __init__(self, site, host):
        self.site, self.address, self.processes = site, site.address(host), []

    def spawn(self, name, arguments):
        log = open(self.site.path(f"{self.name}-{name}.log".replace(" ", "-")), "ab")
        process = subprocess.Popen(["taskset", "-c", "0", *arguments], stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                                   cwd=self.site.directory)
        self.processes.append(process)
        return process

    def write(self, name, text):
        path = self.site.path(f"{self.name}-{name}".replace(" ", "-"))
        with open(path, "w") as out:
            out.write(text)
        return path

    def target(self, work):
        return {"http": (self.address, HTTP), "http2": (self.address, HTTP), "grpc": (self.address, GRPC),
                "tcp": (self.address, TCP), "tls": (self.address, TLS), "mesh": (self.address, HTTP)}[work]

    def stop(self):
        for process in self.processes:
            process.send_signal(signal.SIGTERM)
        for process in self.processes:
            try:
                process.wait(CLOSED_BY)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        self.processes = []

    def pids(self):
        """Its processes and their children."""
        roots, all_pids = [process.pid for process in self.processes], set()
        parents = {}
        for entry in os.listdir("/proc"):
            if entry.isdigit():
                try:
                    parents.setdefault(int(stat_fields(entry)[1]), []).append(int(entry))
                except (FileNotFoundError, ProcessLookupError):
                    pass
        while roots:
            pid = roots.pop()
            all_pids.add(pid)
            roots += parents.get(pid, [])
        return all_pids

    def cpu_seconds(self):
        total = 0
        for pid in self.pids():
            try:
                fields = stat_fields(pid)
                total += int(fields[11]) + int(fields[12])
            except (FileNotFoundError, ProcessLookupError):
                pass
        return total / os.sysconf("SC_CLK_TCK")

    def resident_bytes(self):
        total = 0
        for pid in self.pids():
            with open(f"/proc/{pid}/status") as status:
                total += sum(int(line.split()[1]) * 1024 for line in status if line.startswith("VmRSS:"))
        return total


def stat_fields(pid):
    """/proc/PID/stat from the state on, so that index 1 is the parent, 11 and 12 the ticks of user and system."""
    with open(f"/proc/{pid}/stat") as stat:
        return stat.read().rsplit(")", 1)[1].split()


# MARK: mesh-node


class BenchMesh(Mesh):
    def __init__(self, program, site, first_host, nodes, workers=1, cores="0"):
        super().__init__(program, nodes=nodes, start_options=("--workers", str(workers)))
        self.cores = cores
        shutil.rmtree(self.directory)
        self.directory = site.path(f"mesh-{first_host}")
        os.makedirs(f"{self.directory}/seed")
        self.addresses = {f"n{i}": site.address(first_host + i) for i in range(nodes)}
        file = {"cluster": "bench", "config": ["seed"], "accessLog": "off",
                "nodes": [{"name": name, "address": address, "locality": f"local/{name}", "gateway": name == "n0"}
                          for name, address in self.addresses.items()]}
        with open(self.cluster_file, "w") as out:
            json.dump(file, out)

    def prefix(self, node):
        return ["taskset", "-c", self.cores]


SERVICE_ENTRY = """apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {{ name: {name} }}
spec:
  hosts: [{host}]
  location: MESH_EXTERNAL
  resolution: STATIC
  ports: [{{ number: {port}, name: {protocol}, protocol: {upper} }}]
  endpoints: [{endpoints}]
---
"""
VIRTUAL_SERVICE = """apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {{ name: {name} }}
spec:
  hosts: ["{host}"]
  gateways: [entrance]
  http:
    - match: [{{ uri: {{ prefix: / }} }}]
      route: [{{ destination: {{ host: {target}, port: {{ number: {port} }} }} }}]
---
"""


def gateway(servers):
    return ("apiVersion: networking.istio.io/v1\nkind: Gateway\nmetadata: { name: entrance }\nspec:\n"
            "  selector: { istio: ingressgateway }\n  servers:\n" + "".join(f"    - {server}\n" for server in servers) + "---\n")


class Ours(Peer):
    name = "mesh-node"
    does = ("http", "http2", "grpc", "tcp", "tls")

    def __init__(self, site, host, program):
        super().__init__(site, host)
        self.mesh = BenchMesh(program, site, host, 1)
        self.mesh.write_config("bench.yaml", self.configuration())

    def configuration(self):
        site = self.site
        files = f"serverCertificate: {site.path('leaf.pem')}, privateKey: {site.path('leaf.key')}"
        text = gateway([
            f"{{ port: {{ number: {HTTP}, name: http, protocol: HTTP }}, hosts: ['*'] }}",
            f"{{ port: {{ number: {GRPC}, name: grpc, protocol: GRPC }}, hosts: ['*'] }}",
            f"{{ port: {{ number: {TCP}, name: tcp, protocol: TCP }}, hosts: ['*'] }}",
            f"{{ port: {{ number: {TLS}, name: https, protocol: HTTPS }}, hosts: ['*'], tls: {{ mode: SIMPLE, {files} }} }}",
        ])
        for name, protocol, number, port in (("origin", "http", 80, site.origin_port), ("calls", "grpc", 81, site.origin_port),
                                             ("sink", "tcp", 82, site.sink_port)):
            endpoints = f"{{ address: {site.origin}, ports: {{ {protocol}: {port} }} }}"
            text += SERVICE_ENTRY.format(name=name, host=f"{name}.bench", port=number, protocol=protocol,
                                         upper=protocol.upper(), endpoints=endpoints)
        text += VIRTUAL_SERVICE.format(name="entrance", host="*", target="origin.bench", port=80).replace(
            "    - match: [{ uri: { prefix: / } }]\n",
            f"    - match: [{{ port: {GRPC} }}]\n      route: [{{ destination: {{ host: calls.bench, port: {{ number: 81 }} }} }}]\n"
            "    - match: [{ uri: { prefix: / } }]\n")
        text = text.rstrip("-\n") + (
            f"\n  tcp:\n    - match: [{{ port: {TCP} }}]\n"
            "      route: [{ destination: { host: sink.bench, port: { number: 82 } } }]\n---\n")
        return text

    def start(self):
        self.mesh.start()
        self.processes = [self.mesh.processes["n0"]]

    def stop(self):
        self.mesh.__exit__()
        self.processes = []


class OursOnCores(Ours):
    """So many workers, free to use all cores."""

    does = ("http",)

    def __init__(self, site, host, program, workers):
        super().__init__(site, host, program)
        self.name, self.workers = f"{workers} worker{'s'[:workers - 1]}", workers
        self.mesh.start_options = ["--workers", str(workers)]
        self.mesh.cores = f"0-{os.cpu_count() - 1}"

    def busy_seconds(self):
        """CPU seconds of each worker thread."""
        tasks, seconds = f"/proc/{self.processes[0].pid}/task", []
        for task in os.listdir(tasks):
            with open(f"{tasks}/{task}/comm") as comm:
                if not comm.read().startswith("mesh-worker-"):
                    continue
            with open(f"{tasks}/{task}/stat") as stat:
                fields = stat.read().rsplit(")", 1)[1].split()
            seconds.append((int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK"))
        return seconds


class OursScaled(Ours):
    name = "mesh-node"
    does = ("http",)

    def configuration(self):
        site, text = self.site, gateway([f"{{ port: {{ number: {HTTP}, name: http, protocol: HTTP }}, hosts: ['*'] }}"])
        for service in range(site.scale_services):
            endpoints = ", ".join(f"{{ address: {site.endpoint(service, i)}, ports: {{ http: {site.origin_port} }} }}"
                                  for i in range(site.scale_endpoints))
            text += SERVICE_ENTRY.format(name=f"s{service}", host=f"s{service}.bench", port=80, protocol="http",
                                         upper="HTTP", endpoints=endpoints)
            text += VIRTUAL_SERVICE.format(name=f"s{service}", host=f"s{service}.bench", target=f"s{service}.bench", port=80)
        return text


class OursTwoHops(Peer):
    """From an outbound port of one node, by mTLS, to the application of another."""

    name = "mesh-node"
    does = ("mesh",)

    def __init__(self, site, host, program):
        super().__init__(site, host)
        self.mesh = BenchMesh(program, site, host, 2)
        self.mesh.write_config("bench.yaml", """apiVersion: v1
kind: Service
metadata: { name: echo }
spec:
  selector: { app: echo }
  ports: [{ name: http, port: 9080 }]
""")

    def start(self):
        self.mesh.start()
        self.run_workloads()
        self.processes = [self.mesh.processes["n0"], self.mesh.processes["n1"]]

    def run_workloads(self):
        origin = ("--address", self.site.origin)
        self.mesh.run("echo", self.site.origin_port, None, node="n1", options=(*origin, "--service-port", "9080"))
        self.mesh.run("caller", self.site.origin_port, None, node="n0", options=origin)

    def target(self, work):
        return self.address, 15100

    def stop(self):
        self.mesh.__exit__()
        self.processes = []


# MARK: nginx


class Nginx(Peer):
    name = "nginx"
    does = ("http", "http2", "grpc", "tls")

    def configuration(self):
        site, here = self.site, self.address
        return self.frame(f"""
  upstream origin {{ server {site.origin}:{site.origin_port}; keepalive 2048; keepalive_requests 1000000000; }}
  upstream calls {{ server {site.origin}:{site.origin_port}; keepalive 256; keepalive_requests 1000000000; }}
  server {{ listen {here}:{HTTP} backlog=4096; listen {here}:8081 http2; {self.forward("origin")} }}
  server {{ listen {here}:{GRPC} http2; location / {{ grpc_pass grpc://calls; }} }}
  server {{ listen {here}:{TLS} ssl; ssl_certificate {site.path("leaf.pem")}; ssl_certificate_key {site.path("leaf.key")};
    ssl_protocols TLSv1.3; ssl_session_cache off; ssl_session_tickets off; {self.forward("origin")} }}""")

    def forward(self, upstream):
        return (f"location / {{ proxy_pass http://{upstream}; proxy_http_version 1.1; proxy_set_header Connection ''; "
                "proxy_set_header Host $host; proxy_set_header X-Request-Id $request_id; "
                "proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for; proxy_set_header X-Forwarded-Proto $scheme; }")

    def frame(self, http):
        return f"""worker_processes 1; worker_rlimit_nofile 20000; daemon off; pid {self.site.path(f'nginx-{self.address}.pid')};
error_log {self.site.path('nginx-error.log')} crit;
events {{ worker_connections 20000; }}
http {{
  access_log off; keepalive_requests 1000000000; keepalive_timeout 3600; server_names_hash_max_size 8192;
  server_names_hash_bucket_size 128; client_body_temp_path {self.site.directory}; proxy_temp_path {self.site.directory};
  fastcgi_temp_path {self.site.directory}; uwsgi_temp_path {self.site.directory}; scgi_temp_path {self.site.directory};
  http2_max_requests 1000000000; http2_max_concurrent_streams 1000;
{http}
}}
"""

    def target(self, work):
        return (self.address, 8081) if work == "http2" else super().target(work)

    def start(self):
        self.spawn("run", ["nginx", "-p", self.site.directory, "-c", self.write("conf", self.configuration())])


class NginxScaled(Nginx):
    does = ("http",)

    def configuration(self):
        site, text = self.site, ""
        for service in range(site.scale_services):
            servers = " ".join(f"server {site.endpoint(service, i)}:{site.origin_port};" for i in range(site.scale_endpoints))
            text += f"  upstream s{service} {{ {servers} keepalive 64; }}\n"
            text += f"  server {{ listen {self.address}:{HTTP}; server_name s{service}.bench; {self.forward(f's{service}')} }}\n"
        return self.frame(text)


# MARK: HAProxy


class HAProxy(Peer):
    name = "HAProxy"
    does = ("http", "http2", "grpc", "tcp", "tls")

    def configuration(self):
        site, here = self.site, self.address
        origin = f"{site.origin}:{site.origin_port}"
        headers = "option forwardfor\n  unique-id-format %{+X}o%ci%cp%fi%fp%Ts%rt%pid\n  unique-id-header x-request-id"
        return self.frame() + f"""
frontend web
  bind {here}:{HTTP}
  bind {here}:8081 proto h2
  bind {here}:{TLS} ssl crt {site.path("pair.pem")} ssl-min-ver TLSv1.3 no-tls-tickets
  {headers}
  default_backend origin
backend origin
  http-reuse always
  server a {origin}
frontend calls
  bind {here}:{GRPC} proto h2
  default_backend calls
backend calls
  http-reuse always
  server a {origin} proto h2
frontend bytes
  mode tcp
  bind {here}:{TCP}
  default_backend bytes
backend bytes
  mode tcp
  server a {site.origin}:{site.sink_port}
"""

    def frame(self):
        return """global
  nbthread 1
  maxconn 9900
  tune.ssl.cachesize 0
  tune.h2.max-concurrent-streams 1000
defaults
  mode http
  timeout client 1h
  timeout server 1h
  timeout connect 5s
  timeout http-keep-alive 1h
"""

    def target(self, work):
        return (self.address, 8081) if work == "http2" else super().target(work)

    def start(self):
        self.spawn("run", ["haproxy", "-db", "-f", self.write("cfg", self.configuration())])


class HAProxyScaled(HAProxy):
    does = ("http",)

    def configuration(self):
        site = self.site
        mapping = self.write("map", "".join(f"s{i}.bench s{i}\n" for i in range(site.scale_services)))
        text = self.frame() + f"""
frontend web
  bind {self.address}:{HTTP}
  option forwardfor
  use_backend %[req.hdr(host),lower,map({mapping})]
"""
        for service in range(site.scale_services):
            text += f"backend s{service}\n  balance leastconn\n  http-reuse always\n"
            for index in range(site.scale_endpoints):
                text += f"  server e{index} {site.endpoint(service, index)}:{site.origin_port}\n"
        return text


# MARK: Envoy


def envoy_address(host, port):
    return {"socket_address": {"address": host, "port_value": port}}


def envoy_type(name, **fields):
    return {"@type": f"type.googleapis.com/envoy.{name}", **fields}


def envoy_manager(routes, prefix):
    router = envoy_type("extensions.filters.http.router.v3.Router")
    manager = envoy_type(
        "extensions.filters.network.http_connection_manager.v3.HttpConnectionManager", stat_prefix=prefix, codec_type="AUTO",
        use_remote_address=True, route_config={"virtual_hosts": routes},
        http2_protocol_options={"max_concurrent_streams": 1000},
        http_filters=[{"name": "envoy.filters.http.router", "typed_config": router}])
    return {"name": "envoy.filters.network.http_connection_manager", "typed_config": manager}


def envoy_routes(cluster):
    return [{"name": cluster, "domains": ["*"], "routes": [{"match": {"prefix": "/"}, "route": {"cluster": cluster, "timeout": "0s"}}]}]


def envoy_cluster(name, endpoints, http2=False, tls=None):
    cluster = {"name": name, "type": "STATIC", "connect_timeout": "5s", "lb_policy": "LEAST_REQUEST",
               "circuit_breakers": {"thresholds": [{"max_connections": 100000, "max_pending_requests": 100000, "max_requests": 100000}]},
               "load_assignment": {"cluster_name": name, "endpoints": [{"lb_endpoints": [
                   {"endpoint": {"address": envoy_address(*endpoint)}} for endpoint in endpoints]}]}}
    if http2:
        options = envoy_type("extensions.upstreams.http.v3.HttpProtocolOptions",
                             explicit_http_config={"http2_protocol_options": {"max_concurrent_streams": 1000}})
        cluster["typed_extension_protocol_options"] = {"envoy.extensions.upstreams.http.v3.HttpProtocolOptions": options}
    if tls:
        cluster["transport_socket"] = tls
    return cluster


class Envoy(Peer):
    name = "Envoy"
    does = ("http", "http2", "grpc", "tcp", "tls")

    def tls(self, side, mutual=False, alpn=None):
        site = self.site
        files = {"certificate_chain": {"filename": site.path("leaf.pem")}, "private_key": {"filename": site.path("leaf.key")}}
        common = {"tls_params": {"tls_minimum_protocol_version": "TLSv1_3", "tls_maximum_protocol_version": "TLSv1_3"}}
        if mutual or side == "Downstream":
            common["tls_certificates"] = [files]
        if mutual:
            common["validation_context"] = {"trusted_ca": {"filename": site.path("ca.pem")}}
        if alpn:
            common["alpn_protocols"] = [alpn]
        fields = {"common_tls_context": common}
        if mutual and side == "Downstream":
            fields["require_client_certificate"] = True
        if side == "Upstream":
            fields["sni"] = "bench.example"
        context = envoy_type(f"extensions.transport_sockets.tls.v3.{side}TlsContext", **fields)
        return {"name": "envoy.transport_sockets.tls", "typed_config": context}

    def listener(self, port, filters, tls=None):
        chain = {"filters": [filters]}
        if tls:
            chain["transport_socket"] = tls
        return {"address": envoy_address(self.address, port), "filter_chains": [chain], "tcp_backlog_size": 4096}

    def resources(self):
        site, origin = self.site, (self.site.origin, self.site.origin_port)
        web = envoy_manager(envoy_routes("origin"), "web")
        bytes_proxy = envoy_type("extensions.filters.network.tcp_proxy.v3.TcpProxy", stat_prefix="bytes", cluster="sink")
        return {
            "listeners": [
                self.listener(HTTP, web), self.listener(GRPC, envoy_manager(envoy_routes("calls"), "calls")),
                self.listener(TLS, web, self.tls("Downstream")),
                self.listener(TCP, {"name": "envoy.filters.network.tcp_proxy", "typed_config": bytes_proxy})],
            "clusters": [envoy_cluster("origin", [origin]), envoy_cluster("calls", [origin], http2=True),
                         envoy_cluster("sink", [(site.origin, site.sink_port)])]}

    def run(self, name, resources):
        path = self.write(f"{name}.json", json.dumps({"static_resources": resources}))
        self.spawn(name, ["envoy", "-c", path, "--concurrency", "1", "--disable-hot-restart", "-l", "error",
                          "--use-dynamic-base-id"][:-1])

    def start(self):
        self.run("one", self.resources())


class EnvoyScaled(Envoy):
    does = ("http",)

    def resources(self):
        site, hosts, clusters = self.site, [], []
        for service in range(site.scale_services):
            name = f"s{service}"
            hosts.append({**envoy_routes(name)[0], "domains": [f"{name}.bench"]})
            endpoints = [(site.endpoint(service, i), site.origin_port) for i in range(site.scale_endpoints)]
            clusters.append(envoy_cluster(name, endpoints))
        return {"listeners": [self.listener(HTTP, envoy_manager(hosts, "web"))], "clusters": clusters}


class EnvoyTwoHops(Envoy):
    """Two Envoys with mTLS between them, by HTTP/1.1 or HTTP/2."""

    does = ("mesh",)

    def __init__(self, site, host, http2):
        super().__init__(site, host)
        self.http2 = http2
        self.name = "Envoy pair, h2" if http2 else "Envoy pair, h1"

    def start(self):
        alpn = "h2" if self.http2 else "http/1.1"
        far = envoy_cluster("far", [(self.address, 15008)], http2=self.http2, tls=self.tls("Upstream", mutual=True, alpn=alpn))
        near = envoy_cluster("origin", [(self.site.origin, self.site.origin_port)])
        self.run("far", {"listeners": [self.listener(
            15008, envoy_manager(envoy_routes("origin"), "far"), self.tls("Downstream", mutual=True, alpn=alpn))], "clusters": [near]})
        self.run("near", {"listeners": [self.listener(HTTP, envoy_manager(envoy_routes("far"), "near"))], "clusters": [far]})


def answers(address, port):
    try:
        with socket.create_connection((address, port), 1):
            return True
    except OSError:
        return False


def version(*command):
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=20)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return (done.stdout + done.stderr).strip().splitlines()[0].strip() if done.returncode == 0 else None


__all__ = [name for name in dir() if not name.startswith("_")] + ["eventually", "time"]
