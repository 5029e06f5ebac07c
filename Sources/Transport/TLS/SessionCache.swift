import COpenSSL
import Primitives
import Synchronization

/// Owns an OpenSSL session. Immutable once made, and OpenSSL lets threads share it.
final class SessionHandle: @unchecked Sendable {
  let pointer: OpaquePointer
  init(owning pointer: OpaquePointer) { self.pointer = pointer }
  deinit { SSL_SESSION_free(pointer) }
}

/// Sessions of servers that one client context has talked to, for the next connection to the same server.
///
/// It belongs to its context, so a session never meets another identity, other authorities or another expectation.
final class SessionCache: Sendable {
  private struct Entries {
    var byServer: [String: [SessionHandle]] = [:]
    var order: [String] = []
  }
  private let entries = Mutex(Entries())

  /// Takes the newest session out: a ticket is used once, so that connections cannot be linked by it (RFC 8446 C.4).
  func take(_ server: String) -> SessionHandle? {
    entries.withLock { $0.byServer[server]?.popLast() }
  }

  func give(_ session: SessionHandle, for server: String) {
    entries.withLock { entries in
      if entries.byServer[server] == nil {
        entries.order.append(server)
        if entries.order.count > TransportLimits.resumableServers {
          entries.byServer[entries.order.removeFirst()] = nil
        }
      }
      entries.byServer[server, default: []].append(session)
      if entries.byServer[server, default: []].count > TransportLimits.sessionsPerServer {
        entries.byServer[server]?.removeFirst()
      }
    }
  }
}

extension TLSContext {
  /// Tickets of a server are sealed with keys of this context alone, and carry its number: another context, even one that
  /// listens on the same port under another name, does not take them (CVE-2025-23419).
  func setResumption() {
    guard options.resumesSessions else { return }
    if role == .server {
      cossl_allow_tickets(pointer, 1, TransportLimits.sessionSeconds)
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
}

extension TLSSession {
  /// Offers the server the session of an earlier connection.
  func offerSession() {
    guard let key = resumptionKey, let session = context.sessions.take(key) else { return }
    if SSL_set_session(ssl, session.pointer) != 1 { ERR_clear_error() }
  }

  /// Whether the handshake continued an earlier session.
  public var isResumed: Bool { SSL_session_reused(ssl) == 1 }
}
