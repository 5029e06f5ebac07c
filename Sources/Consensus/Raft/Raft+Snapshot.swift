import Primitives

/// A snapshot on its way from the leader, complete up to `state.count` bytes.
struct ArrivingSnapshot: Sendable, Equatable {
  let position: LogPosition
  let configuration: ClusterConfiguration
  let digest: Digest
  let total: Int
  var state: [UInt8]

  init(_ chunk: SnapshotChunk) {
    position = chunk.position
    configuration = chunk.configuration
    digest = chunk.digest
    total = chunk.total
    state = []
  }

  func accepts(_ chunk: SnapshotChunk) -> Bool {
    chunk.position == position && chunk.digest == digest && chunk.total == total && chunk.configuration == configuration
  }
}

/// Log compaction and snapshot transfer (Raft thesis §5), one chunk in flight at a time.
extension Raft {
  mutating func compact(through index: LogIndex, state: [UInt8], into effects: inout [RaftEffect]) {
    guard index <= commitIndex, index > log.snapshot?.position.index ?? .zero, let term = log.term(at: index),
      state.count <= ConsensusLimits.snapshotBytesMax
    else { return }
    let snapshot = Snapshot(
      position: LogPosition(index: index, term: term), configuration: log.configuration(at: index), state: state)
    log.compact(to: snapshot, trailing: settings.trailingEntries)
    flush(into: &effects)
    pending.snapshot = snapshot
  }

  // MARK: Leader

  func startSnapshot(to peer: NodeName, _ progress: inout Progress, into effects: inout [RaftEffect]) {
    guard let snapshot = log.snapshot else { return }
    progress.flow = .snapshot(snapshot.position, offset: 0, quiet: 0)
    effects.append(chunk(of: snapshot, at: 0, to: peer))
  }

  private func chunk(of snapshot: Snapshot, at offset: Int, to peer: NodeName) -> RaftEffect {
    let end = min(snapshot.state.count, offset + max(1, min(settings.chunkBytes, ConsensusLimits.chunkBytesMax)))
    let chunk = SnapshotChunk(
      position: snapshot.position, configuration: snapshot.configuration, digest: snapshot.digest,
      total: snapshot.state.count, offset: offset, bytes: Array(snapshot.state[offset..<end]))
    return .send(RaftMessage(cluster: cluster, term: term, body: .snapshotChunk(chunk)), to: peer)
  }

  /// Sends the chunk the follower waits for; starts over when a newer snapshot has taken this one's place.
  func sendChunk(to peer: NodeName, _ leader: inout Leader, into effects: inout [RaftEffect]) {
    guard var progress = leader.progress[peer], case .snapshot(let position, let offset, _) = progress.flow,
      let snapshot = log.snapshot
    else { return }
    if snapshot.position == position && offset <= snapshot.state.count {
      progress.flow = .snapshot(position, offset: offset, quiet: 0)
      effects.append(chunk(of: snapshot, at: offset, to: peer))
    } else {
      startSnapshot(to: peer, &progress, into: &effects)
    }
    leader.progress[peer] = progress
  }

  /// Counts heartbeats answered while a chunk is not; the second one means that the chunk or its reply was lost.
  func isChunkOverdue(_ progress: inout Progress) -> Bool {
    guard case .snapshot(let position, let offset, let quiet) = progress.flow else { return false }
    progress.flow = .snapshot(position, offset: offset, quiet: quiet + 1)
    return quiet >= 1
  }

  mutating func receiveSnapshotReply(
    at position: LogPosition, offset: Int, from peer: NodeName, at now: Instant, into effects: inout [RaftEffect]
  ) {
    guard case .leader(var leader) = self.position, var progress = leader.progress[peer] else { return }
    progress.heard(at: now)
    leader.progress[peer] = progress
    if case .snapshot(position, let sent, _) = progress.flow, offset != sent {
      progress.flow = .snapshot(position, offset: offset, quiet: 0)
      leader.progress[peer] = progress
      sendChunk(to: peer, &leader, into: &effects)
    }
    self.position = .leader(leader)
  }

  // MARK: Follower

  mutating func receiveChunk(_ chunk: SnapshotChunk, from peer: NodeName, into effects: inout [RaftEffect]) {
    guard case .follower(var follower) = position else { return }
    guard chunk.position.index > commitIndex else {
      return send(.appendReply(.matched(commitIndex)), to: peer, into: &effects)
    }
    guard chunk.total <= ConsensusLimits.snapshotBytesMax, chunk.bytes.count <= ConsensusLimits.chunkBytesMax else { return }
    var arriving = ArrivingSnapshot(chunk)
    if let known = follower.arriving, known.accepts(chunk) { arriving = known }
    if chunk.offset == arriving.state.count, chunk.bytes.count <= arriving.total - arriving.state.count {
      arriving.state += chunk.bytes
    }
    let isComplete = arriving.state.count == arriving.total
    follower.arriving = isComplete ? nil : arriving
    position = .follower(follower)
    if isComplete {
      install(arriving, from: peer, into: &effects)
    } else {
      send(.snapshotReply(at: arriving.position, offset: arriving.state.count), to: peer, into: &effects)
    }
  }

  private mutating func install(_ arrived: ArrivingSnapshot, from peer: NodeName, into effects: inout [RaftEffect]) {
    let snapshot = Snapshot(
      position: arrived.position, configuration: arrived.configuration, state: arrived.state, digest: arrived.digest)
    guard snapshot.isIntact else {
      return send(.snapshotReply(at: arrived.position, offset: 0), to: peer, into: &effects)
    }
    if log.holds(snapshot.position) {
      // The log already agrees: what the snapshot says is decided (Raft thesis §5.1).
      advanceCommit(to: snapshot.position.index, into: &effects)
    } else {
      flush(into: &effects)
      noteArrival()
      log.reset(to: snapshot)
      commitIndex = snapshot.position.index
      admit(decided: snapshot.position.term)
      heal()
      pending.snapshot = snapshot
      pending.resetsLog = true
      flush(into: &effects)
      effects.append(.installSnapshot(snapshot))
      effects.append(.configurationChanged(snapshot.configuration, at: snapshot.position.index))
    }
    send(.appendReply(.matched(snapshot.position.index)), to: peer, into: &effects)
  }
}
