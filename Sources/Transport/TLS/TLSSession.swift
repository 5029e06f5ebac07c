import COpenSSL
import Glibc
import Primitives

/// How far a handshake has come.
public enum HandshakeResult: Hashable, Sendable {
  case done
  case wantRead
  case wantWrite
  case failed(TLSError)
}

/// One TLS connection over a nonblocking socket, confined to its loop.
///
/// OpenSSL reads and writes the descriptor itself, without copies between; the caller keeps the descriptor open as long as
/// the session lives, and closes it. Needs SIGPIPE ignored. After `wouldBlock`, whatever readiness comes, try both again.
/// In TLS 1.3 a client's handshake is done before the server has judged the client's certificate: a refusal then shows in
/// the first read.
public final class TLSSession {
  public private(set) var context: TLSContext
  let expected: ExpectedPeer
  /// What is known of the peer; `anonymous` until the handshake has verified it.
  public private(set) var verification: PeerVerification = .anonymous
  /// The certificates the peer sent, leaf first, whether trusted or not.
  public private(set) var peerChain: [Certificate] = []
  /// Why the connection failed; nil while it has not.
  public private(set) var failure: TLSError?

  let ssl: OpaquePointer
  /// Whose sessions may be continued; nil where none may.
  let resumptionKey: String?
  /// Of the context the connection began with.
  let ticketKeys: TicketKeys?
  private var requestedName: [UInt8] = []
  /// Shown to a client that names nobody, where names choose.
  private let unnamed: TLSContext?
  private var established = false

  /// Begins a session over an open descriptor. `serverName` is what a client asks for (SNI); addresses are not sent (RFC 6066).
  ///
  /// A client of servers outside the mesh has to say whom it expects, by `expecting` or, for short, by `serverName`.
  /// `unnamed` is what a server shows to a client that asks for no name, in place of what its context would choose.
  public init(
    _ context: TLSContext, descriptor: Int32, serverName: String? = nil, expecting: ExpectedPeer = .any,
    unnamed: TLSContext? = nil
  ) throws(TLSError) {
    // Before anything is owned: `deinit` does not run for an object that was never whole.
    expected = try Self.expectation(context, serverName, expecting)
    guard let made = SSL_new(context.pointer) else { throw .configuration(OpenSSLErrors.words()) }
    ssl = made
    self.context = context
    self.unnamed = unnamed
    ticketKeys = context.ticketKeys
    resumptionKey = Self.resumptionKey(context, serverName: serverName, expecting: expected)
    guard SSL_set_fd(ssl, descriptor) == 1,
      SSL_set_ex_data(ssl, 0, Unmanaged.passUnretained(self).toOpaque()) == 1
    else { throw .configuration(OpenSSLErrors.words()) }
    if context.role == .server {
      SSL_set_accept_state(ssl)
    } else {
      SSL_set_connect_state(ssl)
      try ask(for: serverName)
      offerSession()
    }
  }

  deinit { SSL_free(ssl) }

  private static func expectation(
    _ context: TLSContext, _ serverName: String?, _ expecting: ExpectedPeer
  ) throws(TLSError) -> ExpectedPeer {
    guard context.role == .client else { return expecting }
    switch (context.trust, expecting) {
    case (.system, .any), (.authorities, .any):
      guard let serverName else { throw .configuration("a client has to say which server it expects") }
      return .names([serverName])
    case (.system, .members), (.authorities, .members), (.members, .names), (.reported, .names):
      throw .configuration("the expected peer and the trusted authorities do not fit together")
    default: return expecting
    }
  }

  private func ask(for serverName: String?) throws(TLSError) {
    guard let serverName, IPAddress(serverName) == nil else { return }
    let bytes = serverName.utf8
    guard (1...TransportLimits.hostNameBytesMax).contains(bytes.count), bytes.allSatisfy({ $0 > 0x20 && $0 < 0x7F }),
      cossl_set_server_name(ssl, serverName) == 1
    else { throw .configuration("'\(serverName.prefix(80))' is not a host name") }
  }

  // MARK: Handshake

  /// Goes on with the handshake as far as the socket allows.
  public func handshake() -> HandshakeResult {
    if let failure { return .failed(failure) }
    if established { return .done }
    ERR_clear_error()
    errno = 0
    let result = SSL_do_handshake(ssl)
    let code = errno
    if result == 1 {
      established = true
      return isResumed ? resumed() : .done
    }
    switch SSL_get_error(ssl, result) {
    case SSL_ERROR_WANT_READ: return .wantRead
    case SSL_ERROR_WANT_WRITE: return .wantWrite
    case let kind: return .failed(fail(kind, code))
    }
  }

  private func resumed() -> HandshakeResult {
    do throws(CertificateError) {
      try restoreVerification()
      keepSession()
      return .done
    } catch {
      established = false
      let refusal = TLSError.certificate(error)
      failure = refusal
      return .failed(refusal)
    }
  }

  /// The member the peer has proved to be.
  public func peerIdentity() throws(TLSError) -> SPIFFEID {
    if let failure { throw failure }
    switch verification {
    case .member(let identity) where established: return identity
    case .unverified(let reason): throw .certificate(reason)
    case .anonymous, .member, .trusted: throw .certificate(.noIdentity)
    }
  }

  /// The application protocol agreed on; empty when there is none.
  public var applicationProtocol: String {
    var bytes: UnsafePointer<UInt8>?
    var count: UInt32 = 0
    SSL_get0_alpn_selected(ssl, &bytes, &count)
    return String(decoding: UnsafeBufferPointer(start: bytes, count: Int(count)), as: UTF8.self)
  }

  /// The host name a client has asked this server for, lower-cased; nil when it named none.
  public var serverName: String? {
    requestedName.isEmpty ? nil : String(decoding: requestedName, as: UTF8.self)
  }

  /// "TLSv1.3", "TLSv1.2".
  public var version: String { SSL_get_version(ssl).map { String(cString: $0) } ?? "" }

  /// Bytes that only the two ends of this connection know (RFC 8446 §7.5), as RFC 9266 binds a proof to a channel.
  public func exporter(label: String = "EXPORTER-Channel-Binding", length: Int = 32) throws(TLSError) -> [UInt8] {
    guard established, failure == nil else { throw .configuration("keys are exported from an established connection") }
    var output = [UInt8](repeating: 0, count: length)
    guard SSL_export_keying_material(ssl, &output, length, label, label.utf8.count, nil, 0, 1) == 1 else {
      throw .violation(OpenSSLErrors.words())
    }
    return output
  }

  // MARK: Data

  /// Reads decrypted bytes. `failed(ECONNRESET)` with `failure == .truncated`: the peer was cut off without a goodbye.
  public func read(into buffer: UnsafeMutableRawBufferPointer) -> IOResult {
    guard failure == nil else { return .failed(EPROTO) }
    guard !buffer.isEmpty else { return .wouldBlock }
    var count = 0
    ERR_clear_error()
    errno = 0
    let result = SSL_read_ex(ssl, buffer.baseAddress, buffer.count, &count)
    let code = errno
    return result == 1 ? .bytes(count) : outcome(result, code)
  }

  /// Encrypts and writes a prefix of the bytes. After `wouldBlock`, the same bytes (at any address) come first again.
  public func write(_ buffer: UnsafeRawBufferPointer) -> IOResult {
    guard failure == nil else { return .failed(EPROTO) }
    guard !buffer.isEmpty else { return .wouldBlock }
    var count = 0
    ERR_clear_error()
    errno = 0
    let result = SSL_write_ex(ssl, buffer.baseAddress, buffer.count, &count)
    let code = errno
    return result == 1 ? .bytes(count) : outcome(result, code)
  }

  /// Whether bytes wait inside the session, for which no edge will come. A reader that stops early has to look.
  public var hasPending: Bool { SSL_has_pending(ssl) == 1 }

  /// Sends close_notify, so the peer knows that nothing was cut. False when the socket is full: try again when writable.
  @discardableResult
  public func shutdown() -> Bool {
    guard established, failure == nil else { return true }
    ERR_clear_error()
    let result = SSL_shutdown(ssl)
    defer { ERR_clear_error() }
    return result >= 0 || SSL_get_error(ssl, result) != SSL_ERROR_WANT_WRITE
  }

  private func outcome(_ result: Int32, _ code: Int32) -> IOResult {
    switch SSL_get_error(ssl, result) {
    case SSL_ERROR_WANT_READ, SSL_ERROR_WANT_WRITE: return .wouldBlock
    case SSL_ERROR_ZERO_RETURN: return .endOfStream
    case let kind:
      switch fail(kind, code) {
      case .truncated: return .failed(ECONNRESET)
      case .system(let error): return .failed(error.code)
      default: return .failed(EPROTO)
      }
    }
  }

  /// Turns OpenSSL's account of a fatal error into ours. The session does nothing more afterwards, not even shut down.
  private func fail(_ kind: Int32, _ code: Int32) -> TLSError {
    let error = reason(kind, code)
    failure = error
    return error
  }

  private func reason(_ kind: Int32, _ code: Int32) -> TLSError {
    let queued = OpenSSLErrors.drain()
    if case .unverified(let reason) = verification, !established, !isReported { return .certificate(reason) }
    if kind == SSL_ERROR_SYSCALL { return code == 0 ? .truncated : .system(SystemError("TLS connection", code: code)) }
    guard let queued else { return .truncated }
    guard queued.library == ERR_LIB_SSL else { return .violation(queued.words) }
    switch queued.reason {
    case SSL_R_UNEXPECTED_EOF_WHILE_READING: return .truncated
    case SSL_R_PEER_DID_NOT_RETURN_A_CERTIFICATE: return .certificate(.noCertificate)
    // Alerts are reasons from 1000 on (SSL_AD_REASON_OFFSET).
    case SSL_AD_REASON_OFFSET...(SSL_AD_REASON_OFFSET + 255): return .alert(queued.words)
    default: return .violation(queued.words)
    }
  }

  private var isReported: Bool {
    if case .reported = context.trust { return true }
    return false
  }

  // MARK: Called from within the handshake

  /// The session of an OpenSSL connection.
  static func of(_ ssl: OpaquePointer) -> TLSSession? {
    SSL_get_ex_data(ssl, 0).map { Unmanaged<TLSSession>.fromOpaque($0).takeUnretainedValue() }
  }

  func record(_ verdict: PeerVerification) { verification = verdict }
  func record(chain: [Certificate]) { peerChain = chain }

  /// Notes the name asked for and changes to the context chosen for it; false refuses the handshake.
  func select(byName name: [UInt8]) -> Bool {
    requestedName = name
    guard let select = context.selectByName else { return true }
    guard let chosen = name.isEmpty ? unnamed ?? select(name) : select(name), chosen.role == .server,
      SSL_set_SSL_CTX(ssl, chosen.pointer) != nil
    else { return false }
    context = chosen
    // Taken over from the first context when the session was made, so they have to be set again.
    SSL_set_verify(ssl, chosen.verifyMode, nil)
    cossl_set_session_tickets(ssl, chosen.options.resumesSessions ? 1 : 0)
    let number = chosen.sessionContext
    return SSL_set_session_id_context(ssl, number, UInt32(number.count)) == 1
      && cossl_set_session_groups(ssl, chosen.groups) == 1
      && cossl_set_session_min_version(ssl, chosen.minimum.number) == 1
      && cossl_set_session_max_version(ssl, chosen.options.maximum.number) == 1
  }
}
