import Membership
import Primitives
import Transport

/// The registry rows of other nodes as they are kept on the disk, with the time when they were good.
public struct SavedRows: Sendable {
  /// What `Registry.saved` wrote.
  public var rows: [UInt8]
  /// Wall clock in seconds: certificates that have expired since were valid then, and the rows are the last word there is.
  public var savedAt: Int64

  public init(rows: [UInt8], savedAt: Int64) {
    self.rows = rows
    self.savedAt = savedAt
  }

  public init?(bytes: [UInt8]) {
    var reader = ByteReader(bytes)
    guard let time = try? reader.uint64() else { return nil }
    savedAt = Int64(clamping: time)
    rows = Array(bytes.dropFirst(8))
  }

  public var bytes: [UInt8] {
    var writer = ByteWriter(reserving: rows.count + 8)
    writer.uint64(UInt64(max(0, savedAt)))
    writer.raw(rows)
    return writer.bytes
  }

  /// Puts the rows that their owners' certificates prove into a registry that has just been made.
  func restore(into registry: inout Registry, trust: Transport.TrustBundle, wallSeconds: Int64, at now: Instant) {
    let then = min(savedAt, wallSeconds)
    let verifier = RowVerifier(trust: trust) { then }
    // Rows after one that cannot be read come from peers again.
    try? registry.restore(rows, verify: verifier.verify, at: now)
  }
}
