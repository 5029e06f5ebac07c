import Dispatch
import Glibc
import Primitives
import Synchronization
import Testing

@testable import MeshActors
@testable import MeshConfig
@testable import Transport

/// An authority, and certificates that it has signed.
struct TestSigner {
  let signer: CertificateSigner
  static let now = Int64(time(nil))

  init(trustDomain: String = "cluster.local") throws {
    signer = try .selfSigned(trustDomain: trustDomain, node: NodeName("root"), now: Self.now, lifetime: 86_400)
  }

  var certificate: Certificate { signer.certificate }
  /// As a JWK holds it.
  var x5c: String { #"["\#(Base64Form.encode(certificate.der))"]"# }

  func workload(_ identity: String) throws -> [Certificate] {
    [
      try signer.issue(
        to: PrivateKey.generate().publicKey, identity: SPIFFEID(parsing: identity), now: Self.now, lifetime: 3600)
    ]
  }

  /// A server's certificate for names as OpenSSL writes them: `DNS:a.example,IP:127.0.0.1`.
  func server(_ names: String) throws -> TLSIdentity {
    let key = PrivateKey.generate()
    let draft = try signer.draft(for: key.publicKey, now: Self.now, lifetime: 3600)
    for (name, value) in [
      ("keyUsage", "critical,digitalSignature"), ("extendedKeyUsage", "serverAuth"), ("subjectAltName", names),
    ] { try draft.add(name, value, issuer: signer.certificate) }
    return try TLSIdentity(chain: [try draft.sign(with: signer.key)], key: key)
  }

  /// A bundle of these authorities.
  static func bundle(_ signers: [TestSigner], sequence: Int = 1, hint: Int = 300) -> [UInt8] {
    let keys = signers.map { #"{"use": "x509-svid", "kty": "EC", "crv": "P-256", "x5c": \#($0.x5c)}"# }
    return Array(
      #"{"keys": [\#(keys.joined(separator: ","))], "spiffe_sequence": \#(sequence), "spiffe_refresh_hint": \#(hint)}"#.utf8)
  }
}

/// A TLS server in this process: reads one request a connection and answers as it is told.
final class TestServer: Sendable {
  enum Answer: Sendable {
    /// Then the connection ends in order.
    case bytes([UInt8])
    /// Then the connection is cut.
    case cut([UInt8])
    /// Nothing, until the client has gone.
    case silence

    static func text(_ text: String) -> Answer { .bytes(Array(text.utf8)) }
    static func ok(_ body: [UInt8]) -> Answer {
      .bytes(Array("HTTP/1.1 200 OK\r\ncontent-length: \(body.count)\r\n\r\n".utf8) + body)
    }
  }

  let port: UInt16
  private let descriptor: Int32
  private let heard = Mutex<[String]>([])

  /// The heads of the requests so far.
  var requests: [String] { heard.withLock { $0 } }

  init(
    _ identity: TLSIdentity, minimum: TLSVersion = .tls12, maximum: TLSVersion = .tls13,
    answer: @escaping @Sendable (_ head: String) -> Answer
  ) throws {
    ProcessSettings.ignoreBrokenPipe()
    let context = try TLSContext.server(
      identity: identity, trust: .nobody, protocols: ["http/1.1"], minimum: minimum, options: TLSOptions(maximum: maximum))
    let listener = try Listener(on: SocketAddress(parsing: "127.0.0.1:0"))
    port = listener.address.port ?? 0
    descriptor = dup(listener.descriptor)
    _ = fcntl(descriptor, F_SETFL, 0)
    DispatchQueue(label: "server").async { [self, descriptor] in
      while true {
        let connection = Glibc.accept(descriptor, nil, nil)
        guard connection >= 0 else { return }
        DispatchQueue(label: "connection").async { self.serve(connection, context, answer) }
      }
    }
  }

  func stop() { shutdown(descriptor, Int32(SHUT_RDWR)) }
  deinit { close(descriptor) }

  private func serve(_ connection: Int32, _ context: TLSContext, _ answer: (String) -> Answer) {
    defer { close(connection) }
    var limit = timeval(tv_sec: 10, tv_usec: 0)
    setsockopt(connection, SOL_SOCKET, SO_RCVTIMEO, &limit, socklen_t(MemoryLayout<timeval>.size))
    setsockopt(connection, SOL_SOCKET, SO_SNDTIMEO, &limit, socklen_t(MemoryLayout<timeval>.size))
    guard let session = try? TLSSession(context, descriptor: connection), session.handshake() == .done else { return }
    var head = ""
    var buffer = [UInt8](repeating: 0, count: 4096)
    while !head.contains("\r\n\r\n") {
      guard case .bytes(let count) = buffer.withUnsafeMutableBytes({ session.read(into: $0) }) else { return }
      head += String(decoding: buffer[..<count], as: UTF8.self)
    }
    heard.withLock { $0.append(head) }
    switch answer(head) {
    case .bytes(let bytes):
      write(bytes, session)
      session.shutdown()
    case .cut(let bytes): write(bytes, session)
    case .silence: _ = buffer.withUnsafeMutableBytes { session.read(into: $0) }
    }
  }

  private func write(_ bytes: [UInt8], _ session: TLSSession) {
    var rest = bytes[...]
    while !rest.isEmpty, case .bytes(let count) = rest.withUnsafeBytes({ session.write($0) }) { rest = rest.dropFirst(count) }
  }
}
