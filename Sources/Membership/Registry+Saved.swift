import Primitives

extension Registry {
  private static let savedFormat: UInt8 = 1

  /// The signed rows of all other owners, to be kept on the disk. This node writes its own anew when it starts.
  public func saved() -> [UInt8] {
    let others = ownerNames.filter { $0 != owner }
    var writer = ByteWriter(reserving: bytes + 64)
    writer.uint8(Self.savedFormat)
    writer.count(others.count)
    for name in others {
      guard let rows = owners[name] else { continue }
      // The node row brings the certificates for the rest.
      let inOrder = rows.inOrder.filter { $0.row.key.kind == .node } + rows.inOrder.filter { $0.row.key.kind != .node }
      writer.count(inOrder.count)
      for stored in inOrder { stored.signed.encode(into: &writer) }
    }
    return writer.bytes
  }

  /// Takes what `saved` wrote, verified row by row as if it came from a peer.
  public mutating func restore(_ saved: [UInt8], verify: Verify, at now: Instant) throws(ByteError) {
    var reader = ByteReader(saved)
    guard try reader.uint8() == Self.savedFormat else { throw .malformed }
    for _ in 0..<(try reader.count(max: MembershipLimits.ownersMax)) {
      var page: [SignedRow] = []
      for _ in 0..<(try reader.count(max: MembershipLimits.rowsPerOwnerMax)) {
        page.append(try SignedRow(from: &reader))
        guard page.count == MembershipLimits.rowsPerMessageMax else { continue }
        _ = merge(page, verify: verify, at: now)
        page = []
      }
      _ = merge(page, verify: verify, at: now)
    }
    try reader.finish()
  }
}
