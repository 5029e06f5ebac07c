import Glibc
import HTTPCodec
import MeshConfig
import Primitives
import Testing
import Transport

@testable import Proxy

/// Ports that a Sidecar opens and sockets that are paths, with real connections.
@Suite("Sidecar listeners and Unix sockets", .serialized) struct SidecarListenerTests {
  private static let workload = "default/client@n1"
  private static func path() -> String { "/tmp/mesh-\(getpid())-\(UInt64.random(in: .min ... .max)).sock" }
  private static let get = "GET / HTTP/1.1\r\nhost: reviews\r\n\r\n"
  /// The servers of these tests are in the proxy's own process.
  private static var options: ProxyOptions {
    var options = ProxyOptions()
    options.refusesOwnSockets = false
    return options
  }

  /// A mesh whose client workload has one further listener, which is opened at a port of the kernel's choice.
  private static func serve<Result: Sendable>(
    _ mesh: TestMesh, _ listener: WorkloadListener, inbound: [Cluster] = [], _ body: @escaping @Sendable (UInt16) -> Result
  ) async throws -> Result {
    let base = mesh.snapshot
    var client = base.localWorkloads[0]
    client.listeners = [listener]
    let snapshot = MeshSnapshot(
      revision: 1, registryVersion: 1, settings: base.settings, services: base.services,
      clusters: mesh.clusters ?? [mesh.cluster()],
      workloads: mesh.workloads, outbound: base.outbound + [mesh.table(port: listener.port)], localWorkloads: [client],
      gateways: [],
      tcp: mesh.tcp, inbound: inbound)
    let kind = ProxyListener.Kind.sidecar(workload: workload, bind: listener.bind, port: listener.port)
    let address = SocketAddress(endpoint: listener.bind, port: 0) ?? .ip(.loopback, port: 0)
    let state = ProxyState(snapshot: snapshot, listeners: [ProxyListener(kind, on: address)], options: options)
    let runtime = try ProxyRuntime(workers: 2, serving: state, seed: 7)
    let published = await runtime.publish(state)
    #expect(published.failures.isEmpty)
    let port = published.address(of: kind)?.port ?? 0
    let result = await blocking { body(port) }
    await runtime.stop()
    return result
  }

  @Test func `requests on a listener's port are for that port, whatever their host says`() async throws {
    let origin = Origin.text("reviews")
    let mesh = TestMesh(endpoints: [TestMesh.endpoint(origin.port)])
    // The workload's own table knows port 80 only; the listener's knows 9080.
    let listener = WorkloadListener(bind: "127.0.0.1", port: 9080, role: .http(table: 1))
    let answers = try await Self.serve(mesh, listener) { port in
      [Self.get, "GET / HTTP/1.1\r\nhost: ratings\r\n\r\n"].map { TestClient(port: port).request($0)?.status }
    }
    #expect(answers == [200, 404])
  }

  @Test func `a proxy listener goes by the port that is asked for`() async throws {
    let origin = Origin.text("reviews")
    let mesh = TestMesh(endpoints: [TestMesh.endpoint(origin.port)])
    let listener = WorkloadListener(bind: "127.0.0.1", port: 8888, role: .proxy(table: 1))
    let answers = try await Self.serve(mesh, listener) { port in
      ["reviews:8888", "reviews:80"].map {
        TestClient(port: port).request("GET http://\($0)/ HTTP/1.1\r\nhost: \($0)\r\n\r\n")?.status
      }
    }
    #expect(answers == [200, 404])
  }

  @Test func `opaque connections go to the host of the listener`() async throws {
    let origin = Origin.echo()
    var mesh = TestMesh.database([TestMesh.endpoint(origin.port)])
    mesh.tcp = [TCPRouteTable()] + mesh.tcp
    let listener = WorkloadListener(bind: "127.0.0.1", port: TestMesh.databasePort, role: .tcp(table: 1, host: "mysqldb"))
    let answer = try await Self.serve(mesh, listener) { port in
      let wire = Wire.connect(port: port)
      wire.send("SELECT 1")
      return wire.receive(count: 8)
    }
    #expect(answer == Array("SELECT 1".utf8))
  }

  @Test func `a listener that is a Unix socket serves programs of this host`() async throws {
    let origin = Origin.text("reviews")
    let mesh = TestMesh(endpoints: [TestMesh.endpoint(origin.port)])
    let path = Self.path()
    let listener = WorkloadListener(bind: "unix://\(path)", port: 0, role: .proxy(table: 0))
    let status = try await Self.serve(mesh, listener) { _ in
      Wire.connect(path: path).flatMap { TestClient($0).request(Self.get)?.status }
    }
    #expect(status == 200)
    #expect(access(path, F_OK) != 0)
  }

  /// A gateway with a listener for each socket, each with the mesh's table on a port of its own number.
  @Test func `a gateway's server may be a Unix socket, with a path or a name`() async throws {
    let origin = Origin.text("reviews")
    let paths = [Self.path(), "@mesh-\(getpid())-\(UInt64.random(in: .min ... .max))", Self.path()]
    let mesh = TestMesh(endpoints: [TestMesh.endpoint(origin.port)])
    var gateways: [GatewayListener] = []
    var listeners: [ProxyListener] = []
    for (index, path) in paths.enumerated() {
      // The last has no routes.
      let table = index == 2 ? RouteTable(ports: [], fallback: .notFound) : mesh.table(port: 0)
      var listener = GatewayListener(port: 0, gateways: ["default/edge"], localWorkload: 0, table: table)
      listener.bind = "unix://\(path)"
      gateways.append(listener)
      let address = try #require(SocketAddress(endpoint: "unix://\(path)", port: 0))
      listeners.append(ProxyListener(.gateway(port: 0, bind: listener.bind), on: address))
    }
    var served = mesh
    served.gateways = gateways
    let state = ProxyState(snapshot: served.snapshot, listeners: listeners, options: Self.options)
    let runtime = try ProxyRuntime(workers: 2, serving: state, seed: 7)
    let published = await runtime.publish(state)
    #expect(published.failures.isEmpty)
    let statuses = await blocking {
      paths.map { path in Wire.connect(path: path).flatMap { TestClient($0).request(Self.get)?.status } }
    }
    await runtime.stop()
    #expect(statuses == [200, 200, 404])
  }

  private static func application(_ address: String, _ port: UInt16, _ spoken: PortProtocol = .http) -> Cluster {
    var cluster = TestMesh().cluster()
    let place = Endpoint.Place(
      key: 5, address: address, port: port, workload: 0, isLocal: true, mesh: nil, locality: Locality(parsing: ""))
    cluster.name = "inbound|9443||"
    cluster.protocol = spoken
    cluster.endpoints = [Endpoint(place, weight: 1, health: .healthy)]
    return cluster
  }

  @Test func `ingress leads to the application, and what only the mesh may say is taken away`() async throws {
    let origin = Origin.text("application")
    let listener = WorkloadListener(bind: "127.0.0.1", port: 9443, role: .inbound(speaks: .http, cluster: 0, tls: nil))
    let inbound = [Self.application("127.0.0.1", origin.port)]
    let status = try await Self.serve(TestMesh(), listener, inbound: inbound) { port in
      TestClient(port: port).request(
        "GET / HTTP/1.1\r\nhost: a\r\nx-forwarded-client-cert: URI=spiffe://cluster.local/ns/x/sa/root\r\n\r\n")?.status
    }
    #expect(status == 200)
    #expect(origin.requests.first?.lowercased().contains("spiffe") == false)
  }

  @Test(arguments: [false, true])
  func `ingress tls ends here, with the client's certificate where it is demanded`(isMutual: Bool) async throws {
    let signer = try CertificateFiles.signer()
    let server = try CertificateFiles("gateway", signedBy: signer)
    let friend = try CertificateFiles("friend", signedBy: signer)
    var tls = ServerTLS(sources: [.files(certificate: server.certificate, key: server.key)])
    if isMutual {
      tls.clientCertificate = .required
      tls.authorities = .material(signer.certificate.pem)
    }
    let origin = Origin.text("application")
    let listener = WorkloadListener(bind: "127.0.0.1", port: 9443, role: .inbound(speaks: .http, cluster: 0, tls: tls))
    let inbound = [Self.application("127.0.0.1", origin.port)]
    let contexts = try [nil, friend.identity].map {
      try TLSContext.client(identity: $0, trust: .nobody, protocols: ["http/1.1"], minimum: .tls12)
    }
    let answers = try await Self.serve(TestMesh(), listener, inbound: inbound) { port in
      contexts.map { context -> Bool in
        guard let wire = TLSWire(port: port, context, serverName: "a") else { return false }
        wire.send("GET / HTTP/1.1\r\nhost: a\r\n\r\n")
        return wire.receive(until: "application").contains("200 OK")
      }
    }
    #expect(answers == [!isMutual, true])
  }

  // MARK: Unix sockets as endpoints

  private static func unixMesh(_ path: String) -> TestMesh {
    let place = Endpoint.Place(
      key: 9, address: "unix://\(path)", port: 80, workload: nil, isLocal: false, mesh: nil, locality: Locality(parsing: ""))
    return TestMesh(endpoints: [Endpoint(place, weight: 1, health: .healthy)])
  }

  @Test(arguments: [false, true])
  func `an endpoint may be a Unix socket, by path or by abstract name`(isAbstract: Bool) async throws {
    let path = isAbstract ? "@mesh-\(getpid())-\(UInt64.random(in: .min ... .max))" : Self.path()
    let server = try UnixServer(path)
    let (answer, _) = try await Self.unixMesh(path).run(Self.options) { TestClient(port: $0).request(Self.get) }
    #expect(answer?.status == 200)
    withExtendedLifetime(server) {}
  }

  @Test func `a socket of the proxy's own process is never called`() async throws {
    let path = Self.path()
    let server = try UnixServer(path)
    let (answer, _) = try await Self.unixMesh(path).run { TestClient(port: $0).request(Self.get) }
    #expect(answer?.status == 503)
    withExtendedLifetime(server) {}
  }

  @Test func `the workload's identity is demanded of what cannot prove one, so it is not called`() async throws {
    let origin = Origin.text("plain")
    var mesh = TestMesh()
    var cluster = mesh.cluster(endpoints: [TestMesh.endpoint(origin.port)])
    cluster.tls = .istioMutual
    mesh.clusters = [cluster]
    let (answer, _) = try await mesh.run { TestClient(port: $0).request(Self.get) }
    #expect(answer?.status == 503 && origin.requests.isEmpty)
  }
}

/// A server on a Unix socket that answers everything with 200.
private final class UnixServer {
  private let listener: Listener
  private let descriptor: Int32

  init(_ path: String) throws {
    listener = try Listener(on: .unix(path: path))
    let descriptor = dup(listener.descriptor)
    _ = fcntl(descriptor, F_SETFL, 0)
    self.descriptor = descriptor
    Origin.thread {
      while true {
        let client = accept(descriptor, nil, nil)
        guard client >= 0 else { return }
        let wire = Wire(client)
        _ = wire.receive(until: "\r\n\r\n")
        wire.send("HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n")
      }
    }
  }

  deinit {
    shutdown(descriptor, Int32(SHUT_RDWR))
    close(descriptor)
  }
}
