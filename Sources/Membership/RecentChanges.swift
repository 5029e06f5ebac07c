import Primitives

/// The keys that changed last, numbered, for those who follow a registry without comparing all of it.
///
/// Kept in pieces: a registry is copied with every view of it, and a change then copies one piece.
struct RecentChanges: Hashable, Sendable {
  private var pieces: [[RowKey]] = []
  /// The number of the first key of the first piece; all pieces but the last are full.
  private var first: UInt64 = 0
  /// Where the next change will stand.
  private(set) var end: UInt64 = 0

  private static let pieceKeys = 64

  mutating func note(_ changed: some Sequence<RowKey>) {
    for key in changed {
      if pieces.last?.count ?? Self.pieceKeys == Self.pieceKeys { pieces.append([]) }
      pieces[pieces.count - 1].append(key)
      end &+= 1
    }
    let dropped = pieces.count - 1 - MembershipLimits.recentChangesMax / Self.pieceKeys
    guard dropped > 0 else { return }
    pieces.removeFirst(dropped)
    first &+= UInt64(dropped * Self.pieceKeys)
  }

  /// Keys from that number on; nil when they are not all known any more, or the number is of another registry.
  func since(_ number: UInt64) -> [RowKey]? {
    guard number >= first, number <= end else { return nil }
    let skipped = Int(number &- first)
    return Array(pieces[(skipped / Self.pieceKeys)...].joined().dropFirst(skipped % Self.pieceKeys))
  }
}

extension Registry {
  /// Where this state stands in the order of changes.
  public var changeMark: UInt64 { recent.end }

  /// Keys of rows that may be other than at an earlier state of this registry; nil when that is too long ago.
  public func keysChanged(since mark: UInt64) -> Set<RowKey>? { recent.since(mark).map(Set.init) }

  /// One workload as `workloads(live:)` has it; nil when there is none under the key.
  public func workload(_ key: RowKey, live: Set<NodeName>) -> PlacedWorkload? {
    guard let stored = owners[key.owner]?.rows[key]?.row, case .workload(let row) = stored.content, !isQuarantined(stored)
    else { return nil }
    return PlacedWorkload(
      owner: key.owner, row: row, version: stored.version, meshPort: meshPort(of: key.owner),
      isReachable: key.owner == owner || live.contains(key.owner))
  }

  /// Keys of an owner's workloads, those that are withdrawn included.
  public func workloadKeys(of name: NodeName) -> [RowKey] {
    (owners[name]?.rows.keys.filter { $0.kind == .workload } ?? []).sorted()
  }

  /// Port of mutual TLS of an owner.
  public func meshPort(of name: NodeName) -> UInt16 {
    guard case .node(let row)? = owners[name]?.rows[.node(name)]?.row.content else { return 15008 }
    return row.meshPort
  }
}
