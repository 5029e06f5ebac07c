import Dispatch
import Glibc
import HTTPCodec
import MeshConfig
import Primitives
import Proxy
import Testing
import Transport

/// One proxy with a door of every kind in front of two recording applications: `reviews` speaks HTTP/1, `ratings` HTTP/2.
///
/// What routing saw is told to the application in `x-evaluated`: a test names the paths and authorities it expects, and
/// only the route that equals one of them adds it.
struct Doors: Sendable {
  enum Way: Sendable, CaseIterable { case outbound, gateway, secured }

  let outbound: UInt16
  let gateway: UInt16
  let secured: UInt16
  let mesh: UInt16
  let plain: Origin
  let binary: Origin
  let log: LogLines
  let browser: TLSContext
  let binaryBrowser: TLSContext
  let member: TLSContext
  let opaqueMember: TLSContext

  static let serverName = "reviews"

  /// A connection to a door, plain or through TLS.
  func connect(_ way: Way, http2: Bool = false) -> Wire {
    switch way {
    case .outbound: Wire.connect(port: outbound)
    case .gateway: Wire.connect(port: gateway)
    case .secured: Wire.secured(port: secured, http2 ? binaryBrowser : browser, serverName: Self.serverName)
    }
  }

  /// A connection of another node, for the workload's port, or for the server name given.
  func connectMesh(_ serverName: String? = nil, opaque: Bool = false) -> Wire {
    Wire.secured(
      port: mesh, opaque ? opaqueMember : member, serverName: serverName ?? "\(plain.port).reviews-v1.default.workload.mesh")
  }

  /// All that comes back on a connection of its own.
  func answer(_ way: Way, _ bytes: some Collection<UInt8>) -> String {
    let wire = connect(way)
    wire.send(bytes)
    return wire.receiveAll()
  }

  func answer(_ way: Way, _ text: String) -> String { answer(way, Array(text.utf8)) }

  var recorded: [String] { plain.requests + binary.requests }
}

extension Doors {
  struct Plan: Sendable {
    /// Evaluated strings that routing tells of, as exact paths and authorities.
    var paths: [String] = []
    var authorities: [String] = []
    var options = ProxyOptions()
    /// What the HTTP/1 application answers; nil: 200 without a body to each request.
    var script: (@Sendable (Origin, Wire) -> Void)?
    /// Changes the route that takes what no path or authority names.
    var route: @Sendable (inout Route) -> Void = { _ in }
    var expectsProxyProtocol = false
  }

  /// Opens the doors, gives them to `body` on a blocking thread, and closes them. Requests have ended and are logged then.
  @discardableResult static func open<Result: Sendable>(_ plan: Plan = Plan(), _ body: @escaping @Sendable (Doors) -> Result)
    async throws -> (result: Result, doors: Doors, statistics: ProxyStatistics)
  {
    let authority = try MeshHopTests.Authority("n1")
    let bundle = try MeshHopTests.bundle(authority)
    let files = try CertificateFiles("edge", signedBy: authority.signer)
    let plain = Origin(plan.script ?? recordingScript)
    let binary = Origin.http2 { peer, id in peer.respond(id, body: []) }
    let log = LogLines()
    var options = plan.options
    options.accessLog = { log.add($0) }
    let state = state(
      plan, plain: plain.port, binary: binary.port, certificate: files, options,
      ProxyIdentities([
        "default/client@n1": try authority.identity("client", bundle: bundle),
        "default/reviews-v1@n1": try authority.identity("reviews", bundle: bundle),
      ]))
    let runtime = try ProxyRuntime(workers: 1, serving: state, seed: 7)
    let published = await runtime.publish(state)
    #expect(published.failures.isEmpty)
    let ports = published.listeners.map { $0.address?.port ?? 0 }
    let key = PrivateKey.generate()
    let leaf = try authority.signer.issue(
      to: key.publicKey, identity: TestMesh.identity("client"), now: MeshHopTests.Authority.today, lifetime: 3600)
    let identity = try TLSIdentity(chain: [leaf], key: key)
    func browser(_ name: String) throws -> TLSContext {
      try .client(identity: nil, trust: .nobody, protocols: [name], minimum: .tls12)
    }
    func member(_ name: String) throws -> TLSContext {
      try .client(identity: identity, trust: .members(bundle), protocols: [name])
    }
    let doors = Doors(
      outbound: ports[0], gateway: ports[1], secured: ports[2], mesh: ports[3], plain: plain, binary: binary, log: log,
      browser: try browser("http/1.1"), binaryBrowser: try browser("h2"), member: try member("h2"),
      opaqueMember: try member("istio"))
    let result = await blocking { body(doors) }
    var statistics = await runtime.statistics()
    // Connections whose clients are gone are noticed a moment later.
    for _ in 0..<200 where statistics.openConnections > 0 {
      try await Task.sleep(for: .milliseconds(5))
      statistics = await runtime.statistics()
    }
    await runtime.stop()
    return (result, doors, statistics)
  }

  private static func recordingScript(_ origin: Origin, _ wire: Wire) {
    var generous = RequestParser.Options()
    generous.limits.fields += 20
    generous.limits.headBytes += 8 * 1024
    var reader = RequestReader(options: generous)
    var pending: [UInt8] = []
    while true {
      let bytes = wire.receive()
      if bytes.isEmpty { break }
      pending += bytes
      reader.receive(bytes)
      while (try? reader.next()) != nil {
        origin.record(pending)
        pending = []
        wire.send("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
      }
    }
    if !pending.isEmpty { origin.record(pending) }
  }

  private static func routes(_ plan: Plan) -> [Route] {
    func telling(_ match: RouteMatch, _ text: String) -> Route {
      var route = TestMesh.route(matches: [match])
      route.requestHeaders.set = [.init(name: Array("x-evaluated".utf8), value: Array(text.utf8))]
      return route
    }
    var last = TestMesh.route()
    plan.route(&last)
    return plan.paths.map { telling(RouteMatch(path: .exact(Array($0.utf8))), $0) }
      + plan.authorities.map { telling(RouteMatch(authority: .exact(Array($0.utf8))), $0) } + [last]
  }

  private static func table(_ plan: Plan, port: UInt16) -> RouteTable {
    let plain = VirtualHost(name: "reviews:80", domains: ["reviews"], routes: routes(plan))
    let binary = VirtualHost(
      name: "ratings:80", domains: ["ratings"],
      routes: routes(plan).map { route in
        var route = route
        if case .forward = route.action { route.action = TestMesh.forward((1, 1)) }
        return route
      })
    let names = ByteTable([(Array("reviews".utf8), 0), (Array("ratings".utf8), 1)])
    return RouteTable(
      ports: (port == 80 ? [80, 8080] : [port]).map { number in
        RouteTable.PortTable(port: number, virtualHosts: [plain, binary], exact: names, wildcards: [])
      }, fallback: .notFound)
  }

  private static func state(
    _ plan: Plan, plain: UInt16, binary: UInt16, certificate: CertificateFiles, _ options: ProxyOptions,
    _ identities: ProxyIdentities
  ) -> ProxyState {
    var mesh = TestMesh()
    var http2 = mesh.cluster("ratings", endpoints: [TestMesh.endpoint(binary, key: 2)])
    http2.protocol = .http2
    mesh.clusters = [mesh.cluster("reviews", endpoints: [TestMesh.endpoint(plain, key: 1)]), http2]
    mesh.workloads = [TestMesh.facts("client", "default", "client"), TestMesh.facts("reviews-v1", "default", "reviews")]
    var tls = GatewayListener(port: 8443, gateways: ["default/edge"], localWorkload: 0, table: table(plan, port: 8443))
    tls.role = .https(ServerTLS(sources: [.files(certificate: certificate.certificate, key: certificate.key)]))
    tls.server = "default/edge/tls"
    tls.serverNames = ["reviews", "ratings"].map { ServerNamePattern($0) }
    var open = GatewayListener(port: 8000, gateways: ["default/edge"], localWorkload: 0, table: table(plan, port: 8000))
    open.server = "default/edge/http"
    open.expectsProxyProtocol = plan.expectsProxyProtocol
    mesh.gateways = [open, tls]
    mesh.locals = [
      LocalWorkload(
        workload: 0, identity: TestMesh.identity("client"), address: "127.0.0.1", ports: [], outbound: 0, outboundPort: nil,
        isGateway: true, health: .healthy),
      LocalWorkload(
        workload: 1, identity: TestMesh.identity("reviews"), address: "127.0.0.1",
        ports: [WorkloadRecord.Port(name: "http", servicePort: 80, port: plain, protocol: .http)], outbound: 0,
        outboundPort: nil, isGateway: false, health: .healthy),
    ]
    let known = mesh.snapshot
    let snapshot = MeshSnapshot(
      revision: 1, registryVersion: 1, settings: known.settings, services: known.services, clusters: mesh.clusters ?? [],
      workloads: mesh.workloads, outbound: [table(plan, port: 80)], localWorkloads: mesh.locals ?? [], gateways: mesh.gateways,
      tcp: [])
    let kinds: [ProxyListener.Kind] = [TestMesh.client, .gateway(port: 8000), .gateway(port: 8443), .meshInbound]
    return ProxyState(
      snapshot: snapshot, listeners: kinds.map { ProxyListener($0, on: .ip(.loopback, port: 0)) }, identities: identities,
      options: options)
  }
}

extension Wire {
  /// The plain side of a TLS connection; closed at once when the handshake fails.
  static func secured(port: UInt16, _ context: TLSContext, serverName: String?) -> Wire {
    var pair: [Int32] = [-1, -1]
    socketpair(AF_UNIX, Int32(SOCK_STREAM.rawValue), 0, &pair)
    let (near, far) = (pair[0], pair[1])
    DispatchQueue.global().async {
      defer { Glibc.close(far) }
      guard let line = TLSWire(port: port, context, serverName: serverName) else { return }
      relay(line, far)
    }
    return Wire(near)
  }

  /// Moves bytes both ways until a side ends.
  private static func relay(_ line: TLSWire, _ far: Int32) {
    let descriptor = line.wire.descriptor
    _ = fcntl(descriptor, F_SETFL, O_NONBLOCK)
    var buffer = [UInt8](repeating: 0, count: 64 * 1024)
    while true {
      var polls = [
        pollfd(fd: descriptor, events: Int16(POLLIN), revents: 0), pollfd(fd: far, events: Int16(POLLIN), revents: 0),
      ]
      guard poll(&polls, 2, 10_000) > 0 else { return }
      if polls[1].revents != 0 {
        let count = recv(far, &buffer, buffer.count, 0)
        guard count > 0 else { return }
        var sent = 0
        while sent < count {
          let result = buffer.withUnsafeBytes { line.session.write(UnsafeRawBufferPointer(rebasing: $0[sent..<count])) }
          guard case .bytes(let part) = result else {
            guard result == .wouldBlock, line.wire.canWrite(within: 10_000) else { return }
            continue
          }
          sent += part
        }
      }
      loop: while true {
        switch buffer.withUnsafeMutableBytes({ line.session.read(into: $0) }) {
        case .bytes(let count): guard Glibc.send(far, buffer, count, Int32(MSG_NOSIGNAL)) == count else { return }
        case .wouldBlock: break loop
        case .endOfStream, .failed: return
        }
      }
    }
  }
}

// MARK: - Refusals

extension Doors {
  /// What a client tries to get through behind a refused request.
  static let smuggled = "GET /smuggled HTTP/1.1\r\nHost: reviews\r\n\r\n"

  /// Sends each request to every door, for both applications, with another request right behind it: the answer has the
  /// status, nothing follows it, the connection ends, and no application sees a whole request. There is one log line each.
  static func expectRefusal(
    _ status: Int, _ requests: [String], ways: [Way] = Way.allCases, reachesApplication: Bool = false,
    at location: SourceLocation = #_sourceLocation
  ) async throws {
    let cases = requests.flatMap { text in
      [text, text.replacing("Host: reviews", with: "Host: ratings")].flatMap { text in ways.map { (text, $0) } }
    }
    let (answers, doors, _) = try await open { doors in cases.map { text, way in doors.answer(way, text + smuggled) } }
    for (answer, (text, way)) in zip(answers, cases) {
      #expect(answer.hasPrefix("HTTP/1.1 \(status) "), "\(way) \(text.prefix(200)): \(answer)", sourceLocation: location)
      #expect(answer.times("HTTP/1.1 ") == 1, "\(way) \(text.prefix(200)): \(answer)", sourceLocation: location)
    }
    #expect(!doors.recorded.contains { $0.contains("smuggled") }, sourceLocation: location)
    if !reachesApplication { #expect(doors.recorded.isEmpty, sourceLocation: location) }
    #expect(doors.log.text.split(separator: "\n").count == cases.count, sourceLocation: location)
  }

  /// The lines of the access log, without the last line end.
  var logLines: [Substring] { log.text.split(separator: "\n") }
}

extension StringProtocol {
  func times(_ text: String) -> Int { split(separator: text, omittingEmptySubsequences: false).count - 1 }
}
