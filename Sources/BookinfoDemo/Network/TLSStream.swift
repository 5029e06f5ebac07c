import COpenSSL
import Glibc
import Primitives

/// TLS 1.2 or later over a TCP connection, as a client that trusts the system's authorities and verifies the host name.
final class TLSStream: ByteStream {
  private let context: OpaquePointer
  private let session: OpaquePointer
  private let transport: TCPStream

  init(over transport: TCPStream, host: String, until deadline: Instant) throws(CallError) {
    guard let context = SSL_CTX_new(TLS_client_method()) else { throw .tls(Self.lastError) }
    guard let session = Self.session(context, transport: transport, host: host) else {
      SSL_CTX_free(context)
      throw .tls(Self.lastError)
    }
    self.context = context
    self.session = session
    self.transport = transport
    try shakeHands(until: deadline)
  }

  private func shakeHands(until deadline: Instant) throws(CallError) {
    do throws(StreamError) {
      _ = try retrying(until: deadline) { SSL_connect(session) }
    } catch {
      switch error {
      case .timedOut: throw .timedOut("shaking hands")
      case .broken(let reason): throw .tls(reason)
      }
    }
  }

  deinit {
    SSL_free(session)
    SSL_CTX_free(context)
  }

  private static func session(_ context: OpaquePointer, transport: TCPStream, host: String) -> OpaquePointer? {
    SSL_CTX_ctrl(context, SSL_CTRL_SET_MIN_PROTO_VERSION, Int(TLS1_2_VERSION), nil)
    SSL_CTX_ctrl(context, SSL_CTRL_MODE, Int(SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER), nil)
    SSL_CTX_set_verify(context, SSL_VERIFY_PEER, nil)
    guard SSL_CTX_set_default_verify_paths(context) == 1, let session = SSL_new(context) else { return nil }
    let isNamed = host.withCString {
      SSL_ctrl(
        session, SSL_CTRL_SET_TLSEXT_HOSTNAME, Int(TLSEXT_NAMETYPE_host_name), UnsafeMutableRawPointer(mutating: $0))
    }
    guard isNamed == 1, SSL_set1_host(session, host) == 1, SSL_set_fd(session, transport.descriptor) == 1 else {
      SSL_free(session)
      return nil
    }
    return session
  }

  func read(until deadline: Instant) throws(StreamError) -> [UInt8] {
    var bytes = [UInt8](repeating: 0, count: Limits.readBytes)
    let count = try retrying(until: deadline) { SSL_read(session, &bytes, Int32(bytes.count)) }
    return Array(bytes.prefix(Int(count)))
  }

  func write(_ bytes: [UInt8], until deadline: Instant) throws(StreamError) {
    guard !bytes.isEmpty else { return }
    _ = try retrying(until: deadline) { SSL_write(session, bytes, Int32(clamping: bytes.count)) }
  }

  /// Repeats an operation until it stops asking for the socket; 0 when the peer closed the session.
  private func retrying(until deadline: Instant, _ operation: () -> Int32) throws(StreamError) -> Int32 {
    while true {
      ERR_clear_error()
      let result = operation()
      if result > 0 { return result }
      switch SSL_get_error(session, result) {
      case SSL_ERROR_ZERO_RETURN: return 0
      case SSL_ERROR_WANT_READ: guard transport.wait(for: POLLIN, until: deadline) else { throw .timedOut }
      case SSL_ERROR_WANT_WRITE: guard transport.wait(for: POLLOUT, until: deadline) else { throw .timedOut }
      default: throw .broken(verificationError ?? Self.lastError)
      }
    }
  }

  private var verificationError: String? {
    let code = SSL_get_verify_result(session)
    guard code != Int(X509_V_OK), let text = X509_verify_cert_error_string(code) else { return nil }
    return String(cString: text)
  }

  private static var lastError: String {
    let code = ERR_get_error()
    guard code != 0, let text = ERR_reason_error_string(code) else { return "the connection ended" }
    return String(cString: text)
  }
}
