import CLinux
import Glibc
import Primitives
import Transport

/// The bytes of one connection, with or without TLS. Closing is explicit; what is forgotten closes at the end of the value.
struct ByteStream: ~Copyable {
  enum Handshake {
    case done
    case wouldBlock
    case failed(String)
  }

  let descriptor: Int32
  private let session: TLSSession?
  private(set) var isHandshaking: Bool
  private var isOpen = true

  /// Plaintext.
  init(_ socket: consuming Socket) {
    descriptor = socket.release()
    session = nil
    isHandshaking = false
  }

  /// TLS in the context's role.
  init(
    _ socket: consuming Socket, _ context: TLSContext, serverName: String? = nil, expecting: ExpectedPeer = .any,
    unnamed: TLSContext? = nil
  ) throws(TLSError) {
    session = try TLSSession(
      context, descriptor: socket.descriptor, serverName: serverName, expecting: expecting, unnamed: unnamed)
    descriptor = socket.release()
    isHandshaking = true
  }

  private init(_ descriptor: Int32, _ session: TLSSession?, isHandshaking: Bool) {
    self.descriptor = descriptor
    self.session = session
    self.isHandshaking = isHandshaking
  }

  deinit { if isOpen { Glibc.close(descriptor) } }

  /// Moves the connection into a value of another owner; this one is closed afterwards.
  mutating func handOver() -> ByteStream {
    isOpen = false
    return ByteStream(descriptor, session, isHandshaking: isHandshaking)
  }

  var isTLS: Bool { session != nil }
  /// What the connection says of its TLS; nil without.
  var tls: TLSSession? { session }
  /// Why TLS failed after the handshake, for example because the peer refused our certificate.
  var tlsFailure: TLSError? { session?.failure }

  /// Who the client proved to be, after the handshake on the mesh port.
  var meshPeer: MeshPeer? {
    guard let session, let identity = try? session.peerIdentity() else { return nil }
    return MeshPeer(
      identity: identity, serverName: serverName, certificateHash: hexString(session.peerChain.first?.fingerprint ?? []))
  }

  /// Whether the handshake continued an earlier session; nil without TLS.
  var isResumed: Bool? { session?.isResumed }

  /// The application protocol agreed on (ALPN); empty without TLS or agreement.
  var applicationProtocol: String { session?.applicationProtocol ?? "" }
  /// Of a client whose certificate was verified.
  var clientCertificate: Certificate? {
    switch session?.verification {
    case .trusted, .member: session?.peerChain.first
    case .anonymous, .unverified, nil: nil
    }
  }

  /// What that client showed beside it: its issuers, nearest first. Empty after resumption, which shows nothing.
  var clientIssuers: [Certificate] { clientCertificate == nil ? [] : Array(session?.peerChain.dropFirst() ?? []) }

  /// The host name that a TLS client asked for; empty when there is none.
  var serverName: [UInt8] { session?.serverName.map { Array($0.utf8) } ?? [] }
  /// The settings chosen for the server name.
  var tlsContext: TLSContext? { session?.context }
  /// Whether a read would bring bytes that were received and decrypted already.
  var hasMore: Bool { session?.hasPending ?? false }

  mutating func handshake() -> Handshake {
    guard let session, isHandshaking else { return .done }
    switch session.handshake() {
    case .done:
      isHandshaking = false
      return .done
    case .wantRead, .wantWrite: return .wouldBlock
    case .failed(let error): return .failed(error.description)
    }
  }

  /// Writes what stands before TLS and before all else; false when a new connection does not take it at once.
  borrowing func writeFirst(_ bytes: [UInt8]) -> Bool {
    bytes.isEmpty || bytes.withUnsafeBytes { Socket.write(descriptor, $0) } == .bytes(bytes.count)
  }

  borrowing func read(into buffer: UnsafeMutableRawBufferPointer) -> IOResult {
    session?.read(into: buffer) ?? Socket.read(descriptor, into: buffer)
  }

  borrowing func write(_ buffer: UnsafeRawBufferPointer) -> IOResult {
    session?.write(buffer) ?? Socket.write(descriptor, buffer)
  }

  /// Says that nothing more comes from here.
  borrowing func shutdownWrite() {
    session?.shutdown()
    Glibc.shutdown(descriptor, Int32(SHUT_WR))
  }

  /// As above, once close_notify is on its way; false while the socket is full.
  borrowing func endWriting() -> Bool {
    guard session?.shutdown() ?? true else { return false }
    Glibc.shutdown(descriptor, Int32(SHUT_WR))
    return true
  }

  /// Makes closing look like a failure to the peer.
  borrowing func resetOnClose() { _ = cl_set_reset_on_close(descriptor) }

  mutating func close(orderly: Bool = true) {
    guard isOpen else { return }
    isOpen = false
    if orderly, !isHandshaking { session?.shutdown() }
    Glibc.close(descriptor)
  }
}

/// Who is on the other end of a mesh connection, from its verified certificate.
struct MeshPeer: Hashable {
  var identity: SPIFFEID
  /// The server name the client asked for: `<port>.<workload>.<namespace>.workload.mesh`; empty when it asked for none, as
  /// ztunnel does: then the authority of its CONNECT says whom it means.
  var serverName: [UInt8]
  /// SHA-256 of the certificate, in hexadecimal.
  var certificateHash: String
}
