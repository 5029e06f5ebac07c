import COpenSSL
import Glibc
import Primitives

// Resumption spares the signatures of a handshake and nothing else: whom the peer proved to be was established by this same
// context, and is looked at again each time.

extension TLSContext {
  /// Tickets of a server carry its context's number: another context, even one that listens on the same port under another
  /// name, does not take them (CVE-2025-23419).
  func setResumption() {
    guard options.resumesSessions else { return }
    if role == .server {
      cossl_allow_resumption(
        pointer, TransportLimits.ticketsPerConnection, TransportLimits.sessionSeconds, TransportLimits.sessionsWithoutTicket,
        TicketKeys.callback, Self.judgeTicket)
      SSL_CTX_set_session_id_context(pointer, sessionContext, UInt32(sessionContext.count))
    } else {
      cossl_remember_sessions(pointer, Self.newSession)
    }
  }

  private typealias NewSession = @convention(c) (OpaquePointer?, OpaquePointer?) -> Int32

  /// 1 keeps the session that OpenSSL hands over.
  private static let newSession: NewSession = { ssl, session in
    guard let ssl, let session, let connection = TLSSession.of(ssl), let server = connection.resumptionKey else { return 0 }
    connection.context.sessions.give(SessionHandle(owning: session), for: server)
    return 1
  }

  private typealias JudgeTicket =
    @convention(c) (
      OpaquePointer?, OpaquePointer?, UnsafePointer<UInt8>?, Int, SSL_TICKET_STATUS, UnsafeMutableRawPointer?
    ) -> SSL_TICKET_RETURN

  /// A client whose certificate has expired since shows it anew, and is refused then with the reason. A ticket of
  /// TLS 1.3 is followed by another, since clients use it once.
  private static let judgeTicket: JudgeTicket = { _, session, _, _, status, _ in
    guard status == SSL_TICKET_SUCCESS || status == SSL_TICKET_SUCCESS_RENEW, let session else {
      return SSL_TICKET_RETURN_IGNORE_RENEW
    }
    var now = time(nil)
    if let peer = SSL_SESSION_get0_peer(session), X509_cmp_time(X509_get0_notAfter(peer), &now) <= 0 {
      return SSL_TICKET_RETURN_IGNORE_RENEW
    }
    let isUsedOnce = SSL_SESSION_get_protocol_version(session) >= TLS1_3_VERSION
    return isUsedOnce || status == SSL_TICKET_SUCCESS_RENEW ? SSL_TICKET_RETURN_USE_RENEW : SSL_TICKET_RETURN_USE
  }
}

extension TLSSession {
  /// Of which peer's earlier connection a client may go on; nil where it does not matter whom it finds.
  static func resumptionKey(_ context: TLSContext, serverName: String?, expecting: ExpectedPeer) -> String? {
    guard context.role == .client, context.options.resumesSessions else { return nil }
    let expected =
      switch expecting {
      case .names(let names): names
      case .members(let members): members.map(\.description).sorted()
      case .any: [String]()
      }
    guard !expected.isEmpty || serverName != nil else { return nil }
    return "\(serverName ?? "") \(expected.joined(separator: " "))"
  }

  /// Offers the server the session of an earlier connection.
  func offerSession() {
    guard let key = resumptionKey, let session = context.sessions.take(key) else { return }
    if SSL_set_session(ssl, session.pointer) != 1 { ERR_clear_error() }
  }

  /// A session of TLS 1.2 is good for the next connection too; those of TLS 1.3 come with their tickets.
  func keepSession() {
    guard let key = resumptionKey, SSL_version(ssl) < TLS1_3_VERSION, let session = SSL_get1_session(ssl) else { return }
    context.sessions.give(SessionHandle(owning: session), for: key)
  }

  /// Whether the handshake continued an earlier session.
  public var isResumed: Bool { SSL_session_reused(ssl) == 1 }

  /// What the session tells of the peer whose certificate was verified when it began.
  func restoreVerification() throws(CertificateError) {
    guard let pointer = SSL_get0_peer_certificate(ssl) else {
      if context.verifyMode & SSL_VERIFY_FAIL_IF_NO_PEER_CERT != 0 { throw .noCertificate }
      return
    }
    guard X509_up_ref(pointer) == 1 else { throw .noCertificate }
    let leaf = try Certificate(CertificateHandle(owning: pointer))
    guard Int64(time(nil)) <= leaf.notAfter else { throw .expired }
    record(chain: [leaf])
    switch context.trust {
    case .nobody: break
    case .members, .reported:
      let identity = try leaf.spiffeID()
      if case .members(let members) = expected, !members.contains(identity) {
        throw .unexpectedIdentity(identity.description)
      }
      record(.member(identity))
    case .system, .authorities, .clients: record(.trusted)
    }
  }
}
