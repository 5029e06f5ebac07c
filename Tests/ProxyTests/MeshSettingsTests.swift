import HTTPCodec
import MeshConfig
import Primitives
import Proxy
import Telemetry
import Testing
import Transport

/// What Istio's MeshConfig, a Sidecar and operators in header values change on the way of a request.
@Suite("Settings of the mesh", .serialized) struct MeshSettingsTests {
  private static func state(
    _ mesh: TestMesh, locals: [LocalWorkload]? = nil, inbound: [Cluster] = [], _ change: (inout MeshSettings) -> Void = { _ in }
  ) -> ProxyState {
    var state = mesh.state()
    let old = state.snapshot
    var settings = old.settings
    change(&settings)
    state.snapshot = MeshSnapshot(
      revision: 1, registryVersion: 1, settings: settings, services: old.services, clusters: Array(old.clusters),
      workloads: Array(old.workloads), outbound: old.outbound, localWorkloads: locals ?? old.localWorkloads,
      gateways: old.gateways, tcp: old.tcp, inbound: inbound)
    return state
  }

  private static func answer(_ state: ProxyState, _ request: String) async throws -> HTTPResponse? {
    let runtime = try ProxyRuntime(workers: 1, serving: state, seed: 7)
    let port = await runtime.publish(state).listeners.first?.address?.port ?? 0
    let response = await blocking { TestClient(port: port).request(request) }
    await runtime.stop()
    return response
  }

  private static func mesh(_ origin: Origin, _ route: Route = TestMesh.route()) -> TestMesh {
    var mesh = TestMesh()
    mesh.endpoints = [TestMesh.endpoint(origin.port)]
    mesh.routes = [route]
    return mesh
  }

  private static func field(_ name: String, _ value: String) -> HeaderOperations.Field {
    HeaderOperations.Field(name: Array(name.utf8), value: [], format: CommandFormat(value))
  }

  private static let get = "GET /path?q=1 HTTP/1.1\r\nHost: reviews\r\nUser-Agent: test\r\n\r\n"

  @Test func `operators in header values are filled in on requests and responses`() async throws {
    let origin = Origin.text("ok")
    var route = TestMesh.route(matches: [RouteMatch(name: "all")])
    route.requestHeaders.set = [
      Self.field("x-agent", "%REQ(User-Agent)% by %PROTOCOL%"),
      Self.field("x-from", "%DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT%"),
      Self.field("x-path", "%REQ_WITHOUT_QUERY(:PATH)%"), Self.field("x-nothing", "%REQ(x-missing)%"),
    ]
    route.responseHeaders.add = [
      Self.field("x-route", "%ROUTE_NAME% %RESPONSE_CODE% %REQ(:METHOD)%"), Self.field("x-length", "%RESP(Content-Length)%"),
    ]
    let response = try await Self.answer(Self.state(Self.mesh(origin, route)), Self.get)
    let request = origin.requests.first ?? ""
    #expect(request.contains("x-agent: test by HTTP/1.1\r\n") && request.contains("x-from: 127.0.0.1\r\n"))
    #expect(request.contains("x-path: /path\r\n") && !request.contains("x-nothing"))
    #expect(response?.headers.contains { $0.name == "x-route" && $0.value == "default.all 200 GET" } == true)
    #expect(response?.headers.contains { $0.name == "x-length" && $0.value == "2" } == true)
  }

  @Test func `proxyHeaders says what is written`() async throws {
    let origin = Origin.text("ok")
    let state = Self.state(Self.mesh(origin)) { settings in
      settings.proxy.headers.server = "ours"
      settings.proxy.headers.leavesOutRequestID = true
      settings.proxy.headers.leavesOutAttemptCount = true
      settings.proxy.headers.leavesOutDebug = true
    }
    let response = try await Self.answer(state, Self.get)
    let request = origin.requests.first ?? ""
    #expect(!request.contains("x-request-id") && !request.contains("x-envoy-attempt-count"))
    #expect(response?.headers.contains { $0.name == "server" && $0.value == "ours" } == true)
    #expect(response?.headers.contains { $0.name == "x-envoy-upstream-service-time" } == false)
  }

  @Test func `the host before a rewrite is told where the mesh says so`() async throws {
    for tells in [true, false] {
      let origin = Origin.text("ok")
      var route = TestMesh.route()
      route.rewrite = RewritePolicy(uri: nil, authority: Array("inner".utf8))
      let state = Self.state(Self.mesh(origin, route)) { $0.proxy.headers.tellsHost = tells }
      _ = try await Self.answer(state, Self.get)
      let request = origin.requests.first ?? ""
      #expect(request.contains("host: inner\r\n"))
      #expect(request.contains("x-forwarded-host: reviews\r\n") == tells)
    }
  }

  @Test(arguments: [
    (PathNormalizationMode.none, "/a/../%62//c"), (.base, "/b//c"), (.byDefault, "/b//c"), (.mergeSlashes, "/b/c"),
    (.decodeAndMergeSlashes, "/b/c"),
  ])
  func `paths are normalised as the mesh says`(mode: PathNormalizationMode, expected: String) async throws {
    // As it came: a server that parses would normalise the path itself.
    let origin = Origin { origin, wire in
      origin.record(wire.receive())
      _ = wire.send("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
    }
    let state = Self.state(Self.mesh(origin)) { $0.pathNormalization = mode }
    _ = try await Self.answer(state, "GET /a/../%62//c HTTP/1.1\r\nHost: reviews\r\n\r\n")
    #expect(origin.requests.first?.hasPrefix("GET \(expected) HTTP/1.1\r\n") == true)
  }

  // MARK: Inbound

  private static func inbound(_ port: UInt16, _ pool: ConnectionPoolPolicy = ConnectionPoolPolicy()) -> Cluster {
    var cluster = TestMesh().cluster("inbound", endpoints: [TestMesh.endpoint(port, isLocal: true)])
    cluster.name = "inbound|\(port)||"
    cluster.connectionPool = pool
    return cluster
  }

  /// What a request from another node is answered, when the port's application is said to be where `cluster` leads.
  private static func hop(registered: UInt16, _ cluster: Cluster) async throws -> HTTPResponse? {
    let authority = try MeshHopTests.Authority("n1")
    let bundle = try MeshHopTests.bundle(authority)
    var server = MeshHopTests.server(registered, try authority.identity("reviews", bundle: bundle))
    let old = server.snapshot
    var local = old.localWorkloads[0]
    local.inbound = [0]
    server.snapshot = MeshSnapshot(
      revision: 1, registryVersion: 1, settings: old.settings, services: old.services, clusters: Array(old.clusters),
      workloads: Array(old.workloads), outbound: old.outbound, localWorkloads: [local], gateways: [], inbound: [cluster])
    let far = try ProxyRuntime(workers: 1, serving: server)
    let meshPort = await far.publish(server).address(of: .meshInbound)?.port ?? 0
    let client = MeshHopTests.client(meshPort, registered, try authority.identity("client", bundle: bundle))
    let response = try await answer(client, "GET / HTTP/1.1\r\nHost: reviews\r\n\r\n")
    await far.stop()
    return response
  }

  @Test func `a Sidecar's defaultEndpoint is where the application is called`() async throws {
    let origin = Origin.text("here")
    let response = try await Self.hop(registered: 1, Self.inbound(origin.port))
    #expect(response?.status == 200 && response?.body == Array("here".utf8))
  }

  @Test func `inbound limits hold at the server's node`() async throws {
    let origin = Origin.text("here")
    let response = try await Self.hop(registered: origin.port, Self.inbound(origin.port, ConnectionPoolPolicy(maxRequests: 0)))
    #expect(response?.status == 503 && origin.requests.isEmpty)
  }
}
