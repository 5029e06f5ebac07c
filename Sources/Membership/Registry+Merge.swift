import Primitives

extension Registry {
  private struct Candidate {
    let row: Row
    let signed: SignedRow
  }

  /// Takes the rows that are newer than what is known and truly their owner's. Nothing is taken on the sender's word.
  public mutating func merge(_ rows: [SignedRow], verify: Verify, at now: Instant) -> MergeResult {
    var result = MergeResult()
    var candidates: [Candidate] = []
    for signed in rows.prefix(MembershipLimits.rowsPerMessageMax) {
      if let row = try? Row(payload: signed.payload) {
        candidates.append(Candidate(row: row, signed: signed))
      } else {
        result.rejected.append(.malformed)
      }
    }
    candidates.sort { ($0.row.key.owner, $0.row.version, $0.row.key) < ($1.row.key.owner, $1.row.version, $1.row.key) }
    var start = 0
    while start < candidates.count {
      let owner = candidates[start].row.key.owner
      let end = candidates[start...].firstIndex { $0.row.key.owner != owner } ?? candidates.count
      merge(candidates[start..<end], of: owner, verify: verify, at: now, into: &result)
      start = end
    }
    return result
  }

  private mutating func merge(
    _ candidates: ArraySlice<Candidate>, of owner: NodeName, verify: Verify, at now: Instant, into result: inout MergeResult
  ) {
    if owner == self.owner {
      checkOwn(candidates, verify: verify, into: &result)
      return
    }
    // The newest node row that proves itself brings the certificates for the others of this batch, whatever their order.
    var chains: [[[UInt8]]] = []
    if let known = owners[owner]?.certificates, !known.isEmpty { chains.append(known) }
    for candidate in candidates.reversed() {
      guard case .node(let node) = candidate.row.content, isNewer(candidate.row) else { continue }
      if verify(candidate.signed, owner, node.certificates) {
        chains.insert(node.certificates, at: 0)
        break
      }
    }
    for candidate in candidates { take(candidate, chains: chains, verify: verify, at: now, into: &result) }
  }

  private func isNewer(_ row: Row) -> Bool {
    let version = row.version
    guard version > forgotten[row.key.owner] ?? .zero else { return false }
    guard let rows = owners[row.key.owner] else { return true }
    if let stored = rows.rows[row.key] { return version > stored.row.version || mutated(.takeOlderRows) }
    return version >= rows.floor
  }

  private mutating func take(
    _ candidate: Candidate, chains: [[[UInt8]]], verify: Verify, at now: Instant, into result: inout MergeResult
  ) {
    let row = candidate.row
    let key = row.key
    guard isNewer(row) else {
      checkEquivocation(candidate, chains: chains, verify: verify, into: &result)
      return
    }
    if case .node(let node) = row.content {
      guard verify(candidate.signed, key.owner, node.certificates) else {
        result.rejected.append(.signature(key))
        return
      }
    } else {
      guard !chains.isEmpty else {
        result.rejected.append(.unknownOwner(key))
        return
      }
      guard mutated(.believeRows) || chains.contains(where: { verify(candidate.signed, key.owner, $0) }) else {
        result.rejected.append(.signature(key))
        return
      }
    }
    guard hasRoom(for: key, candidate.signed) else {
      result.rejected.append(.quota(key))
      return
    }
    forgotten[key.owner] = nil
    result.accepted += 1
    result.changed += store(row, candidate.signed, at: now)
  }

  /// Two payloads of one version, both signed by the owner: the first one stays, and it is said.
  private mutating func checkEquivocation(
    _ candidate: Candidate, chains: [[[UInt8]]], verify: Verify, into result: inout MergeResult
  ) {
    let key = candidate.row.key
    guard let stored = owners[key.owner]?.rows[key], stored.row.version == candidate.row.version,
      stored.signed.payload != candidate.signed.payload,
      chains.contains(where: { verify(candidate.signed, key.owner, $0) })
    else { return }
    owners[key.owner]?.equivocatedAt = candidate.row.version
    result.rejected.append(.equivocation(key, candidate.row.version))
  }

  /// Only this process writes this node's rows. A newer one that truly is this node's means an earlier life whose incarnation was
  /// higher: its clock went back, or its disk was an older one.
  private func checkOwn(_ candidates: ArraySlice<Candidate>, verify: Verify, into result: inout MergeResult) {
    var chains = owners[owner].map { [$0.certificates] } ?? []
    for case .node(let node) in candidates.map(\.row.content) { chains.append(node.certificates) }
    let own = candidates.last { candidate in chains.contains { verify(candidate.signed, owner, $0) } }
    guard let highest = own?.row.version, highest > RowVersion(incarnation: incarnation, sequence: sequence) else { return }
    result.rejected.append(.ownRowAhead(highest))
  }
}
