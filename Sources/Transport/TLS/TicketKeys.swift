import COpenSSL
import Primitives
import Synchronization

/// What session tickets are sealed with (RFC 5077 4): one set for all threads, so that a session is resumed whichever of them
/// takes the connection. A key seals for one lifetime of a session and opens for another; whoever learns it later learns
/// nothing of older tickets.
public final class TicketKeys: Sendable {
  struct Key: Sendable {
    let name = secureRandom(count: 16)
    fileprivate let cipher = secureRandom(count: 32)
    fileprivate let mac = secureRandom(count: 32)
    let madeAt: Instant
  }

  private let lifetime: Duration
  /// Newest first.
  private let keys = Mutex<[Key]>([])

  /// - Parameter lifetime: how long a ticket is good for.
  public init(lifetime: Duration = .seconds(TransportLimits.sessionSeconds)) { self.lifetime = lifetime }

  /// The key for new tickets.
  func sealing(at now: Instant) -> Key {
    keys.withLock { keys in
      if let newest = keys.first, now - newest.madeAt < lifetime { return newest }
      let key = Key(madeAt: now)
      keys = [key] + keys.prefix(1)
      return key
    }
  }

  /// The key of a ticket, and whether it still seals new ones; nil when it is unknown or too old.
  func opening(_ name: UnsafeBufferPointer<UInt8>, at now: Instant) -> (key: Key, isCurrent: Bool)? {
    keys.withLock { keys in
      guard let key = keys.first(where: { name.elementsEqual($0.name) }) else { return nil }
      let age = now - key.madeAt
      return age < lifetime * 2 ? (key, age < lifetime) : nil
    }
  }

  typealias Callback =
    @convention(c) (
      OpaquePointer?, UnsafeMutablePointer<UInt8>?, UnsafeMutablePointer<UInt8>?, OpaquePointer?, OpaquePointer?, Int32
    ) -> Int32

  /// 0: another key, so a full handshake; 1: done; 2: done, and the client needs a newer ticket.
  static let callback: Callback = { ssl, name, vector, cipher, mac, seals in
    guard let ssl, let name, let vector, let keys = TLSSession.of(ssl)?.ticketKeys else { return 0 }
    let now = EventLoop.monotonicNow()
    if seals == 1 {
      let key = keys.sealing(at: now)
      name.update(from: key.name, count: key.name.count)
      let fresh = secureRandom(count: Int(EVP_MAX_IV_LENGTH))
      vector.update(from: fresh, count: fresh.count)
      return cossl_use_ticket_key(cipher, mac, vector, key.cipher, key.mac, 1) == 1 ? 1 : -1
    }
    guard let found = keys.opening(UnsafeBufferPointer(start: name, count: 16), at: now) else { return 0 }
    guard cossl_use_ticket_key(cipher, mac, vector, found.key.cipher, found.key.mac, 0) == 1 else { return -1 }
    return found.isCurrent ? 1 : 2
  }
}
