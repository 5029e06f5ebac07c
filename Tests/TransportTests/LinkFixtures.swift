import Glibc
import Primitives
import Synchronization

@testable import Transport

/// What links told, kept for tests that wait for it.
final class EventLog: Sendable {
  private let state = Mutex<[LinkEvent]>([])
  var all: [LinkEvent] { state.withLock { $0 } }
  func record(_ event: LinkEvent) { state.withLock { $0.append(event) } }

  /// The first event that `matches`, as soon as there is one.
  func first<Value>(_ matches: (LinkEvent) -> Value?) async throws -> Value {
    while true {
      for event in all { if let value = matches(event) { return value } }
      try await Task.sleep(for: .milliseconds(2))
    }
  }
  func up(_ node: String) async throws -> LinkTrust {
    try await first { if case .up(let name, _, let trust, _) = $0, name.string == node { trust } else { nil } }
  }
  func down(_ node: String) async throws -> String {
    try await first { if case .down(let name, let reason) = $0, name.string == node { reason } else { nil } }
  }
  func refusal(byPeer: Bool) async throws -> (LinkRejection, String) {
    try await first {
      if case .refused(let code, byPeer, _, _, let text) = $0 { (code, text) } else { nil }
    }
  }
}

/// A node's own authority and certificate.
struct Credentials {
  let name: NodeName
  let signer: CertificateSigner
  static let secret = [UInt8](repeating: 7, count: 32)

  init(_ name: String) throws {
    self.name = try NodeName(name)
    signer = try .selfSigned(trustDomain: "cluster.local", node: self.name, now: Int64(time(nil)), lifetime: 3_600)
  }

  func link(
    claiming other: String? = nil, trusting authorities: [Certificate] = [], secret: [UInt8]? = Credentials.secret
  ) throws -> LinkCredentials {
    let key = PrivateKey.generate()
    let named = try NodeName(other ?? name.string)
    let leaf = try signer.issue(
      to: key.publicKey, identity: .node(trustDomain: "cluster.local", name: named), now: Int64(time(nil)), lifetime: 3_600)
    return LinkCredentials(
      identity: try TLSIdentity(chain: [leaf], key: key), authorities: [signer.certificate],
      bundle: try TrustBundle(trustDomain: "cluster.local", authorities: authorities, version: 1), joinSecret: secret)
  }
}

/// One node's network with its loop and log, listening on loopback.
struct LinkNode {
  let network: LinkNetwork
  let address: SocketAddress
  let log = EventLog()
  let loop: EventLoop
  var name: NodeName { network.local.name }

  init(
    _ name: String, cluster: String = "test", incarnation: UInt64 = 1, _ credentials: LinkCredentials,
    versions: ProtocolRange = .links, clockAhead: Int64 = 0, prepare: (LinkNetwork) -> Void = { _ in }
  ) throws {
    ProcessSettings.ignoreBrokenPipe()
    loop = try EventLoop(name: "links \(name)")
    let local = LocalNode(
      name: try NodeName(name), cluster: try DNSLabel(cluster), incarnation: incarnation, trustDomain: "cluster.local",
      address: .ip(.loopback, port: 0))
    network = try LinkNetwork(
      loop: loop, local: local, credentials: credentials, versions: versions,
      wallSeconds: { Int64(time(nil)) + clockAhead }
    ) { [log] in log.record($0) }
    prepare(network)
    try loop.start()
    address = try network.listen()
  }

  func stop() async {
    await network.close(reason: "the test is over")
    loop.stop()
    loop.join()
  }
}

/// Waits for a condition that other threads bring about.
func eventually(_ condition: () async throws -> Bool) async throws {
  while try await !condition() { try await Task.sleep(for: .milliseconds(2)) }
}
