import Primitives

extension Registry {
  /// Publishes this node's own row. New certificates make all other rows of this node signed anew.
  public mutating func publish(
    node: NodeRow, sign: Sign, at now: Instant, into effects: inout [Effect]
  ) throws(PublishError) {
    let previous = owners[owner]
    var row = node
    row.floor = max(previous?.floor ?? .zero, RowVersion(incarnation: incarnation, sequence: 1))
    var written = [try write(.node(row), key: .node(owner), sign: sign, at: now)]
    if let previous, !previous.certificates.isEmpty, previous.certificates != node.certificates {
      written += try rewriteOthers(sign: sign, at: now)
    }
    push(written, into: &effects)
  }

  /// Publishes a workload of this node, or replaces what it published under the same name.
  public mutating func publish(
    workload: WorkloadRow, sign: Sign, at now: Instant, into effects: inout [Effect]
  ) throws(PublishError) {
    guard owners[owner]?.node != nil else { throw .nodeRowMissing }
    let key = RowKey.workload(owner, namespace: workload.namespace, name: workload.name)
    push([try write(.workload(workload), key: key, sign: sign, at: now)], into: &effects)
  }

  /// Replaces a workload of this node by a tombstone; false when there is none.
  @discardableResult
  public mutating func withdraw(
    namespace: DNSLabel, name: DNSLabel, deletedAtMilliseconds: UInt64, sign: Sign, at now: Instant,
    into effects: inout [Effect]
  ) throws(PublishError) -> Bool {
    let key = RowKey.workload(owner, namespace: namespace, name: name)
    guard let stored = owners[owner]?.rows[key], !stored.row.isTombstone else { return false }
    let tombstone = Row.Content.tombstone(deletedAtMilliseconds: deletedAtMilliseconds)
    push([try write(tombstone, key: key, sign: sign, at: now)], into: &effects)
    return true
  }

  /// Forgets this node's tombstones: its other rows are written anew, then the node row with a floor below them.
  public mutating func compact(sign: Sign, at now: Instant, into effects: inout [Effect]) throws(PublishError) {
    compactionAnnounced = false
    guard case .node(var node)? = owners[owner]?.node?.row.content else { throw .nodeRowMissing }
    node.floor = RowVersion(incarnation: incarnation, sequence: sequence + 1)
    var written = try rewriteOthers(sign: sign, at: now)
    written.append(try write(.node(node), key: .node(owner), sign: sign, at: now))
    push(written, into: &effects)
  }

  /// Continues under a higher incarnation, after `RowRejection.ownRowAhead` or when the membership raised it beyond.
  public mutating func raiseIncarnation(
    to higher: UInt64, sign: Sign, at now: Instant, into effects: inout [Effect]
  ) throws(PublishError) {
    guard higher > incarnation, higher <= MembershipLimits.incarnationMax else { return }
    incarnation = higher
    sequence = 0
    if owners[owner]?.node != nil { try compact(sign: sign, at: now, into: &effects) }
  }

  /// Writes all live rows but the node row again under fresh versions.
  private mutating func rewriteOthers(sign: Sign, at now: Instant) throws(PublishError) -> [Written] {
    var written: [Written] = []
    for stored in owners[owner]?.inOrder ?? [] where stored.row.key.kind != .node && !stored.row.isTombstone {
      written.append(try write(stored.row.content, key: stored.row.key, sign: sign, at: now))
    }
    return written
  }

  struct Written {
    let signed: SignedRow
    let changes: [RowChange]
  }

  private mutating func write(
    _ content: Row.Content, key: RowKey, sign: Sign, at now: Instant
  ) throws(PublishError) -> Written {
    let row = Row(key: key, version: RowVersion(incarnation: incarnation, sequence: sequence + 1), content: content)
    let payload = row.payload()
    // What others would refuse or not understand is refused here, where somebody can mend it.
    guard let read = try? Row(payload: payload), read == row else { throw .invalid(key) }
    guard let signature = sign(payload), signature.count <= MembershipLimits.signatureBytesMax else { throw .signing }
    let signed = SignedRow(payload: payload, signature: signature)
    guard hasRoom(for: key, signed) else { throw .quota }
    sequence += 1
    return Written(signed: signed, changes: store(row, signed, at: now))
  }

  func hasRoom(for key: RowKey, _ signed: SignedRow) -> Bool {
    guard bytes + signed.bytes <= MembershipLimits.registryBytesMax else { return false }
    guard let rows = owners[key.owner] else { return owners.count < MembershipLimits.ownersMax }
    guard rows.bytes(afterStoring: signed, for: key) <= MembershipLimits.bytesPerOwnerMax else { return false }
    return rows.rows[key] != nil || rows.rows.count < MembershipLimits.rowsPerOwnerMax
  }

  /// Tells peers at once; the rest hear of it from them.
  private mutating func push(_ written: [Written], into effects: inout [Effect]) {
    send(written.map(\.signed), toAsManyAs: configuration.pushFanout, except: nil, into: &effects)
    let changes = written.flatMap(\.changes)
    if !changes.isEmpty { effects.append(.changed(changes)) }
  }

  mutating func send(_ rows: [SignedRow], toAsManyAs count: Int, except: NodeName?, into effects: inout [Effect]) {
    guard !rows.isEmpty else { return }
    var chosen = peers.filter { $0 != except }
    if chosen.count > count {
      generator.shuffle(&chosen)
      chosen = Array(chosen.prefix(count))
    }
    for peer in chosen {
      for page in Self.pages(of: rows) { effects.append(.send(.rows(page, continuations: []), to: peer)) }
    }
  }

  static func pages(of rows: [SignedRow]) -> [[SignedRow]] {
    var pages: [[SignedRow]] = []
    var page: [SignedRow] = []
    var bytes = 0
    for row in rows {
      if !page.isEmpty, page.count == MembershipLimits.rowsPerMessageMax || bytes + row.bytes > MembershipLimits.pageBytesMax {
        pages.append(page)
        page = []
        bytes = 0
      }
      page.append(row)
      bytes += row.bytes
    }
    if !page.isEmpty { pages.append(page) }
    return pages
  }
}
