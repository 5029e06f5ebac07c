import Glibc
import HTTPCodec
import MeshConfig
import Primitives
import Proxy
import Synchronization
import Testing
import Transport

extension TestMesh {
  static let databasePort: UInt16 = 3306
  static let forward = ProxyListener.Kind.forward(workload: "default/client@n1", host: "mysqldb", port: databasePort)

  /// A mesh whose one service is an opaque one.
  static func database(_ endpoints: [Endpoint], _ change: (inout Cluster) -> Void = { _ in }) -> TestMesh {
    var mesh = TestMesh()
    var cluster = mesh.cluster("mysqldb", endpoints: endpoints)
    cluster.protocol = .tcp
    change(&cluster)
    mesh.clusters = [cluster]
    let destination = WeightedDestination(cluster: 0, clusterName: cluster.name, weight: 1)
    let service = TCPService(
      host: "mysqldb.default.svc.cluster.local", protocol: .tcp, address: [],
      routes: [TCPRoute(origin: nil, destinations: [destination])])
    mesh.tcp = [
      TCPRouteTable(ports: [
        TCPRouteTable.PortTable(
          port: databasePort, services: [service], hosts: ByteTable([(Array("mysqldb".utf8), 0)]), serverNames: [])
      ])
    ]
    return mesh
  }

  /// Runs a proxy with one listener of a kind, and gives its port to `body` on a blocking thread.
  func serve<Result: Sendable>(
    _ kind: ProxyListener.Kind, options: ProxyOptions = ProxyOptions(), identities: ProxyIdentities = ProxyIdentities(),
    _ body: @escaping @Sendable (UInt16) -> Result
  ) async throws -> (Result, ProxyStatistics) {
    let state = ProxyState(
      snapshot: snapshot, listeners: [ProxyListener(kind, on: .ip(.loopback, port: 0))], identities: identities,
      options: options)
    let runtime = try ProxyRuntime(workers: 1, serving: state, seed: 7)
    let port = await runtime.publish(state).address(of: kind)?.port ?? 0
    let result = await blocking { body(port) }
    var statistics = await runtime.statistics()
    // A connection is counted as closed a moment after its client has seen the end.
    for _ in 0..<200 where statistics.openConnections > 0 {
      try await Task.sleep(for: .milliseconds(5))
      statistics = await runtime.statistics()
    }
    await runtime.stop()
    return (result, statistics)
  }
}

extension Origin {
  /// Sends back what it gets, and ends when its client has ended.
  static func echo() -> Origin {
    Origin { origin, wire in
      var total: [UInt8] = []
      while true {
        let bytes = wire.receive()
        if bytes.isEmpty { break }
        total += bytes
        wire.send(bytes)
      }
      origin.record(total)
    }
  }
}

extension Wire {
  func endSending() { shutdown(descriptor, Int32(SHUT_WR)) }

  /// Exactly so many bytes, or fewer at the end.
  func receive(count: Int) -> [UInt8] {
    var all: [UInt8] = []
    while all.count < count {
      let part = receive()
      if part.isEmpty { break }
      all += part
    }
    return all
  }
}

/// A blocking TLS client.
final class TLSWire {
  let wire: Wire
  let session: TLSSession

  init?(port: UInt16, _ context: TLSContext, serverName: String?) {
    wire = Wire.connect(port: port)
    guard let session = try? TLSSession(context, descriptor: wire.descriptor, serverName: serverName, expecting: .any) else {
      return nil
    }
    self.session = session
    guard session.handshake() == .done else { return nil }
  }

  func send(_ text: String) {
    var text = text
    text.withUTF8 { _ = session.write(UnsafeRawBufferPointer($0)) }
  }

  /// Bytes up to and with the given text, or what came before the end.
  func receive(until end: String) -> String {
    var text = ""
    var buffer = [UInt8](repeating: 0, count: 16 * 1024)
    while !text.contains(end) {
      guard case .bytes(let count) = buffer.withUnsafeMutableBytes({ session.read(into: $0) }) else { break }
      text += String(decoding: buffer.prefix(count), as: UTF8.self)
    }
    return text
  }
}

/// Certificates and keys in files, as an operator provides them.
struct CertificateFiles: Sendable {
  let certificate: String
  let key: String
  let leaf: Certificate
  let identity: TLSIdentity

  init(_ account: String, signedBy signer: CertificateSigner) throws {
    let secret = PrivateKey.generate()
    let now = Int64(wallClockSeconds())
    leaf = try signer.issue(to: secret.publicKey, identity: TestMesh.identity(account), now: now, lifetime: 3600)
    identity = try TLSIdentity(chain: [leaf], key: secret)
    let folder = "/tmp/mesh-tcp-\(getpid())-\(UInt64.random(in: .min ... .max))"
    mkdir(folder, 0o700)
    certificate = "\(folder)/tls.crt"
    key = "\(folder)/tls.key"
    try Self.write(leaf.pem, to: certificate)
    try secret.store(at: key)
  }

  static func write(_ bytes: [UInt8], to path: String) throws {
    let descriptor = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0o600)
    defer { close(descriptor) }
    try #require(bytes.withUnsafeBytes { Glibc.write(descriptor, $0.baseAddress, $0.count) } == bytes.count)
  }

  static func signer(_ name: String = "n1") throws -> CertificateSigner {
    try CertificateSigner.selfSigned(
      trustDomain: "cluster.local", node: TestMesh.label(name), now: Int64(wallClockSeconds()), lifetime: 86_400)
  }
}
