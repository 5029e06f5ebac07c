import HTTPCodec
import MeshConfig
import Primitives
import Proxy
import Telemetry
import Testing
import Transport

/// Two nodes: a client's and a server's, with certificates of one authority or of two.
@Suite("Mesh hops", .serialized) struct MeshHopTests {
  static let now: Int64 = 1_700_000_000
  static let serverName = "9080.reviews-v1.default.workload.mesh"
  static let get = "GET / HTTP/1.1\r\nHost: reviews\r\n\r\n"

  struct Authority {
    let signer: CertificateSigner
    init(_ name: String) throws {
      signer = try CertificateSigner.selfSigned(
        trustDomain: "cluster.local", node: TestMesh.label(name), now: Self.today, lifetime: 86_400)
    }
    static var today: Int64 { Int64(wallClockSeconds()) }

    func identity(
      _ account: String, bundle: TrustBundle, of domain: String = "cluster.local", curves: [String] = []
    ) throws -> ProxyIdentities.Workload {
      let key = PrivateKey.generate()
      let id = try SPIFFEID.workload(trustDomain: domain, namespace: "default", serviceAccount: account)
      let leaf = try signer.issue(to: key.publicKey, identity: id, now: Self.today, lifetime: 3600)
      return try ProxyIdentities.Workload(identity: TLSIdentity(chain: [leaf], key: key), bundle: bundle, curves: curves)
    }
  }

  static func bundle(_ authorities: Authority...) throws -> TrustBundle {
    try TrustBundle(trustDomain: "cluster.local", authorities: authorities.map(\.signer.certificate), version: 1)
  }

  /// The server's node: one workload in front of `port`.
  static func server(
    _ port: UInt16, _ identity: ProxyIdentities.Workload, without: Bool = false,
    configure: @escaping @Sendable (inout MeshSettings) -> Void = { _ in }
  ) -> ProxyState {
    var mesh = TestMesh()
    mesh.configure = configure
    mesh.workloads = [
      TestMesh.facts("reviews-v1", "default", "reviews", node: "n2"), TestMesh.facts("client", "default", "client"),
    ]
    let local = LocalWorkload(
      workload: 0, identity: TestMesh.identity("reviews"), address: "127.0.0.1",
      ports: [WorkloadRecord.Port(name: "http", servicePort: 80, port: port, protocol: .http)], outbound: 0,
      outboundPort: nil, isGateway: false, health: .healthy)
    mesh.locals = without ? [] : [local]
    return ProxyState(
      snapshot: mesh.snapshot, listeners: [ProxyListener(.meshInbound, on: .ip(.loopback, port: 0))],
      identities: ProxyIdentities(["default/reviews-v1@n2": identity]))
  }

  static func client(
    _ meshPort: UInt16, _ application: UInt16, _ identity: ProxyIdentities.Workload, expecting account: String = "reviews",
    aliases: Set<String> = [], routes: [Route]? = nil, configure: @escaping @Sendable (inout MeshSettings) -> Void = { _ in }
  ) -> ProxyState {
    var mesh = TestMesh()
    mesh.routes = routes
    mesh.configure = {
      $0.workloadTLS.aliases = aliases
      configure(&$0)
    }
    mesh.workloads.append(TestMesh.facts("reviews-v1", "default", "reviews", node: "n2"))
    let route = Endpoint.MeshRoute(
      address: "127.0.0.1", port: meshPort, serverName: "\(application).reviews-v1.default.workload.mesh",
      identity: TestMesh.identity(account))
    mesh.endpoints = [TestMesh.endpoint(application, mesh: route, workload: 1)]
    var state = mesh.state()
    state.identities = ProxyIdentities(["default/client@n1": identity])
    return state
  }

  private func serve(
    _ origin: Origin, server: ProxyIdentities.Workload, client: ProxyIdentities.Workload, expecting: String = "reviews",
    requests: [String] = [get], aliases: Set<String> = []
  ) async throws -> ([HTTPResponse?], ProxyStatistics, ProxyStatistics) {
    let serverState = Self.server(origin.port, server)
    let far = try ProxyRuntime(workers: 1, serving: serverState)
    let meshPort = await far.publish(serverState).address(of: .meshInbound)?.port ?? 0
    let clientState = Self.client(meshPort, origin.port, client, expecting: expecting, aliases: aliases)
    let near = try ProxyRuntime(workers: 1, serving: clientState)
    let port = await near.publish(clientState).address(of: TestMesh.client)?.port ?? 0
    let responses = await blocking {
      let client = TestClient(port: port)
      return requests.map { client.request($0) }
    }
    let statistics = (await near.statistics(), await far.statistics())
    await near.stop()
    await far.stop()
    return (responses, statistics.0, statistics.1)
  }

  private func label(_ name: String, _ statistics: ProxyStatistics) -> [String] {
    guard let family = statistics.metrics.first(where: { $0.name == "istio_requests_total" }),
      let at = family.labelNames.firstIndex(of: name)
    else { return [] }
    return family.series.map { $0.labelValues[at] }
  }

  @Test func `a hop between nodes carries both identities and is counted on both sides`() async throws {
    let authority = try Authority("n1")
    let bundle = try Self.bundle(authority)
    let origin = Origin.text("far")
    let (responses, near, far) = try await serve(
      origin, server: authority.identity("reviews", bundle: bundle), client: authority.identity("client", bundle: bundle),
      requests: Array(repeating: Self.get, count: 10))
    #expect(responses.map { $0?.status } == Array(repeating: 200, count: 10))
    #expect(label("reporter", near) == ["source"])
    #expect(label("reporter", far) == ["destination"])
    #expect(label("connection_security_policy", far) == ["mutual_tls"])
    #expect(label("source_principal", far) == ["spiffe://cluster.local/ns/default/sa/client"])
    #expect(label("source_workload", far) == ["client"])
    #expect(label("destination_workload", far) == ["reviews-v1"])
    #expect(far.counters.connectionsAccepted == 1)
    let request = origin.requests.first ?? ""
    #expect(request.contains("x-forwarded-client-cert: By=spiffe://cluster.local/ns/default/sa/reviews;Hash="))
    #expect(request.contains("URI=spiffe://cluster.local/ns/default/sa/client"))
    #expect(!request.contains("x-mesh-source"))
  }

  @Test func `a client of another authority is refused, and nothing reaches the application`() async throws {
    let (ours, theirs) = (try Authority("n1"), try Authority("n9"))
    let origin = Origin.text("never")
    let (responses, _, far) = try await serve(
      origin, server: ours.identity("reviews", bundle: Self.bundle(ours)),
      client: theirs.identity("client", bundle: Self.bundle(ours, theirs)))
    #expect(responses.first??.status == 503)
    #expect(origin.connections == 0)
    #expect(far.counters.handshakeFailures > 0)
  }

  @Test func `an identity of another trust domain counts where that domain is an alias`() async throws {
    let authority = try Authority("n1")
    let plain = try Self.bundle(authority)
    let wide = try TrustBundle(
      trustDomain: "cluster.local", aliases: ["old.example"], authorities: plain.authorities, version: 1)
    let origin = Origin.text("far")
    let server = try authority.identity("reviews", bundle: wide, of: "old.example")
    for (bundle, aliases, status) in [(wide, ["old.example"], 200), (wide, [], 503), (plain, ["old.example"], 503)] {
      let client = try authority.identity("client", bundle: bundle)
      let (responses, _, _) = try await serve(origin, server: server, client: client, aliases: Set(aliases))
      #expect(responses.map { $0?.status } == [status])
    }
    let former = try authority.identity("client", bundle: wide, of: "old.example")
    for (bundle, status) in [(wide, 200), (plain, 503)] {
      let (responses, _, _) = try await serve(origin, server: authority.identity("reviews", bundle: bundle), client: former)
      #expect(responses.map { $0?.status } == [status])
    }
  }

  @Test func `workloads exchange keys in the groups that the mesh names`() async throws {
    let authority = try Authority("n1")
    let bundle = try Self.bundle(authority)
    let origin = Origin.text("far")
    let server = try authority.identity("reviews", bundle: bundle, curves: ["P-384"])
    for (curves, status) in [(["P-384"], 200), (["P-256"], 503)] {
      let client = try authority.identity("client", bundle: bundle, curves: curves)
      let (responses, _, _) = try await serve(origin, server: server, client: client)
      #expect(responses.map { $0?.status } == [status])
    }
  }

  @Test func `a server that is somebody else is refused`() async throws {
    let authority = try Authority("n1")
    let bundle = try Self.bundle(authority)
    let origin = Origin.text("never")
    let (responses, near, _) = try await serve(
      origin, server: authority.identity("impostor", bundle: bundle), client: authority.identity("client", bundle: bundle))
    #expect(responses.first??.status == 503)
    #expect(label("response_flags", near) == ["UF,URX"])
    #expect(origin.connections == 0)
  }

  @Test func `a server name of no workload is refused`() async throws {
    let authority = try Authority("n1")
    let bundle = try Self.bundle(authority)
    let origin = Origin.text("never")
    let serverState = Self.server(origin.port, try authority.identity("reviews", bundle: bundle))
    let far = try ProxyRuntime(workers: 1, serving: serverState)
    let meshPort = await far.publish(serverState).address(of: .meshInbound)?.port ?? 0
    let clientState = Self.client(meshPort, 1, try authority.identity("client", bundle: bundle))
    let near = try ProxyRuntime(workers: 1, serving: clientState)
    let port = await near.publish(clientState).address(of: TestMesh.client)?.port ?? 0
    let response = await blocking { TestClient(port: port).request(Self.get) }
    #expect(response?.status == 503)
    await near.stop()
    await far.stop()
  }

  @Test func `a workload that left answers "not processed" on open connections, and clients never see the word`() async throws {
    let authority = try Authority("n1")
    let bundle = try Self.bundle(authority)
    let origin = Origin.text("here")
    let server = try authority.identity("reviews", bundle: bundle)
    let serverState = Self.server(origin.port, server)
    let far = try ProxyRuntime(workers: 1, serving: serverState)
    let meshPort = await far.publish(serverState).address(of: .meshInbound)?.port ?? 0
    let clientState = Self.client(meshPort, origin.port, try authority.identity("client", bundle: bundle))
    let near = try ProxyRuntime(workers: 1, serving: clientState)
    let port = await near.publish(clientState).address(of: TestMesh.client)?.port ?? 0
    let first = await blocking { TestClient(port: port).request(Self.get) }
    #expect(first?.status == 200)
    var gone = Self.server(origin.port, server, without: true)
    gone.listeners = serverState.listeners
    _ = await far.publish(gone)
    let second = await blocking { TestClient(port: port).request(Self.get) }
    #expect(second?.status == 503)
    #expect(second?.header("x-mesh-not-processed") == nil)
    #expect(origin.requests.count == 1)
    await near.stop()
    await far.stop()
  }

  @Test func `bytes that are no TLS close their connection and nothing else`() async throws {
    let authority = try Authority("n1")
    let bundle = try Self.bundle(authority)
    let state = Self.server(1, try authority.identity("reviews", bundle: bundle))
    let far = try ProxyRuntime(workers: 1, serving: state)
    let port = await far.publish(state).address(of: .meshInbound)?.port ?? 0
    let answers = await blocking {
      (0..<20).map { index -> String in
        let wire = Wire.connect(port: port)
        wire.send((0..<200).map { UInt8(truncatingIfNeeded: $0 &* 31 &+ index) })
        return wire.receiveAll()
      }
    }
    #expect(answers.allSatisfy { !$0.contains("HTTP") })
    let statistics = await far.statistics()
    #expect(statistics.counters.handshakeFailures == 20)
    await far.stop()
  }
}
