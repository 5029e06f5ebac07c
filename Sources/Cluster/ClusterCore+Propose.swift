import Consensus
import Primitives
import Synchronization
import Transport

extension ClusterCore {
  /// Puts a command into the log through whoever leads, trying again while leaders change. Commands are made so that a
  /// second copy changes nothing.
  nonisolated(nonsending) func propose(_ command: Command, deadline: ContinuousClock.Instant) async throws -> Outcome {
    let started = ContinuousClock.now
    while true {
      do {
        if raft.isLeader { return try await proposeHere(command, deadline: deadline) }
        if let leader, let forward { return try await forward(command, leader, deadline) }
      } catch let error as MeshError where Self.isAboutLeadership(error) {
        // The leader moved or is gone; its successor is found below.
      }
      if let error = lostQuorum(since: started, deadline: deadline) { throw error }
      try await Task.sleep(for: ClusterLimits.leaderPoll)
    }
  }

  private static func isAboutLeadership(_ error: MeshError) -> Bool {
    switch error.code {
    case .notHolder, .nodeUnreachable, .unavailable, .conflict, .unknownActor: error.retryable || error.code == .unknownActor
    default: false
    }
  }

  /// Why nothing can be decided now, once that has been so for long enough.
  private func lostQuorum(since started: ContinuousClock.Instant, deadline: ContinuousClock.Instant) -> MeshError? {
    let now = ContinuousClock.now
    let isLost = !ClusterView.quorum(raftStatus, membership.members).isReachable
    guard now >= deadline || (isLost && started.duration(to: now) > ClusterLimits.quorumPatience) else { return nil }
    guard isLost else {
      return MeshError(.timeout, "the voters elected no leader in time; see: mesh-node status")
    }
    return ClusterView.noQuorum(raftStatus, membership.members)
  }

  /// Proposes on this node and waits until the entry is applied here.
  nonisolated(nonsending) func proposeHere(_ command: Command, deadline: ContinuousClock.Instant) async throws -> Outcome {
    try await propose(command, at: nil, deadline: deadline).outcome()
  }

  /// Proposes on this node, which leads and holds the configuration role, and says where the change comes to stand.
  func place(_ change: ChangeSet, deadline: ContinuousClock.Instant) throws -> PlacedProposal {
    guard raft.isLeader, epoch(of: .configuration) == change.epoch else {
      throw MeshError(.notHolder, "this node orders the configuration no more")
    }
    return propose(.configuration(change), at: raft.nextPlace, deadline: deadline)
  }

  private func propose(_ command: Command, at place: LogIndex?, deadline: ContinuousClock.Instant) -> PlacedProposal {
    let proposal = PlacedProposal(place: place ?? .zero)
    let left = max(.zero, ContinuousClock.now.duration(to: deadline))
    let timer = loop.schedule(after: left) { [weak self] in
      let quorum = self?.lostQuorum(since: .now, deadline: .now)
      let text = "a majority of the voters did not answer in time; the change may or may not come into force"
      proposal.settle(.failure(MeshError(.timeout, quorum?.code == .noQuorum ? "\(text); \(quorum?.message ?? "")" : text)))
    }
    raft.propose(command, at: place) { [loop] result in
      loop.cancel(timer)
      proposal.settle(result.map { $0.outcome ?? .unchanged(revision: .zero) })
    }
    return proposal
  }
}

/// A proposal on its way through the log: settled once, by its outcome or by its deadline.
public final class PlacedProposal: Sendable {
  /// Where its entry stands, if it is decided; later changes may build on that.
  public let place: LogIndex
  private let state = Mutex(State())

  private struct State {
    var result: Result<Outcome, MeshError>?
    var waiter: CheckedContinuation<Outcome, any Error>?
  }

  init(place: LogIndex) { self.place = place }

  /// Waits until the entry is applied on this node. For one caller.
  public func outcome() async throws -> Outcome {
    try await withCheckedThrowingContinuation { continuation in
      let result = state.withLock { state in
        if state.result == nil { state.waiter = continuation }
        return state.result
      }
      if let result { continuation.resume(with: result.mapError { $0 as any Error }) }
    }
  }

  func settle(_ result: Result<Outcome, MeshError>) {
    let waiter = state.withLock { state in
      guard state.result == nil else { return nil as CheckedContinuation<Outcome, any Error>? }
      state.result = result
      defer { state.waiter = nil }
      return state.waiter
    }
    waiter?.resume(with: result.mapError { $0 as any Error })
  }
}

extension ClusterCore {
  /// The revision that holds all that was decided before this call, once a majority has confirmed that this node leads.
  nonisolated(nonsending) func decidedRevision(deadline: ContinuousClock.Instant) async throws -> LogIndex {
    let waiting = WaitingRead()
    return try await withCheckedThrowingContinuation { (continuation: CheckedContinuation<LogIndex, any Error>) in
      waiting.continuation = continuation
      raft.readRevision { [loop] result in
        if let timer = waiting.timer { loop.cancel(timer) }
        waiting.settle(result)
      }
      guard waiting.continuation != nil else { return }
      waiting.timer = loop.schedule(after: max(.zero, ContinuousClock.now.duration(to: deadline))) {
        waiting.settle(.failure(MeshError(.timeout, "a majority of the voters did not answer in time")))
      }
    }
  }
}

/// A read that someone waits for: settled once, by its answer or by its deadline.
private final class WaitingRead {
  var continuation: CheckedContinuation<LogIndex, any Error>?
  var timer: TimerToken?

  func settle(_ result: Result<LogIndex, MeshError>) {
    continuation?.resume(with: result.mapError { $0 as any Error })
    continuation = nil
  }
}
