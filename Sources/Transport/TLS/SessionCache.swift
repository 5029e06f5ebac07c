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
