import Glibc
import Primitives
import Testing

@testable import Transport

/// An authority, its bundle, and certificates of every kind, good and bad.
struct TestAuthority {
  let signer: CertificateSigner
  let bundle: TrustBundle
  static let now = Int64(time(nil))
  static let day: Int64 = 86400

  init(_ node: String = "n1", trustDomain: String = "cluster.local") throws {
    signer = try .selfSigned(trustDomain: trustDomain, node: NodeName(node), now: Self.now, lifetime: 30 * Self.day)
    bundle = try TrustBundle(trustDomain: trustDomain, authorities: [signer.certificate], version: 1)
  }

  func identity(
    _ id: String, now: Int64 = TestAuthority.now, lifetime: Int64 = TestAuthority.day
  ) throws -> TLSIdentity {
    let key = PrivateKey.generate()
    let leaf = try signer.issue(to: key.publicKey, identity: SPIFFEID(parsing: id), now: now, lifetime: lifetime)
    return try TLSIdentity(chain: [leaf] + signer.intermediates, key: key)
  }

  /// A leaf with just these extensions, signed by this authority.
  func crafted(_ extensions: [(String, String)]) throws -> TLSIdentity {
    let key = PrivateKey.generate()
    let draft = try signer.draft(for: key.publicKey, now: Self.now, lifetime: Self.day)
    for (name, value) in extensions { try draft.add(name, value, issuer: signer.certificate) }
    return try TLSIdentity(chain: [try draft.sign(with: signer.key)], key: key)
  }

  /// A leaf as it should be, but for its names.
  func named(_ names: String?) throws -> TLSIdentity {
    let usual = [("keyUsage", "critical,digitalSignature"), ("extendedKeyUsage", "serverAuth,clientAuth")]
    return try crafted(usual + (names.map { [("subjectAltName", $0)] } ?? []))
  }
}

/// A client and a server session over a pair of sockets, driven by turns on one thread.
final class TLSPair {
  let client: TLSSession
  let server: TLSSession
  private let sockets: (Int32, Int32)

  init(
    client: TLSContext, server: TLSContext, serverName: String? = nil, expecting: ExpectedPeer = .any
  ) throws {
    ProcessSettings.ignoreBrokenPipe()
    sockets = try Socket.pair()
    self.client = try TLSSession(client, descriptor: sockets.0, serverName: serverName, expecting: expecting)
    self.server = try TLSSession(server, descriptor: sockets.1)
  }

  deinit {
    close(sockets.0)
    close(sockets.1)
  }

  /// Both outcomes. The client reads once more: in TLS 1.3 it learns of its refusal only then.
  func handshake() -> (client: HandshakeResult, server: HandshakeResult) {
    var results: (HandshakeResult, HandshakeResult) = (.wantRead, .wantRead)
    for _ in 0..<20 {
      results = (client.handshake(), server.handshake())
      if results == (.done, .done) { break }
    }
    if results.0 == .done, client.receive(1) == .failed(EPROTO), let failure = client.failure { results.0 = .failed(failure) }
    return results
  }

  func connect() throws {
    let results = handshake()
    try #require(results.client == .done && results.server == .done, "client \(results.client), server \(results.server)")
  }

  /// Cuts the client's end without close_notify.
  func cutClient() { shutdown(sockets.0, Int32(SHUT_RDWR)) }
}

extension TLSSession {
  func send(_ text: String) -> IOResult { Array(text.utf8).withUnsafeBytes { write($0) } }
  func receive(_ count: Int) -> IOResult {
    var buffer = [UInt8](repeating: 0, count: count)
    return buffer.withUnsafeMutableBytes { read(into: $0) }
  }
}
