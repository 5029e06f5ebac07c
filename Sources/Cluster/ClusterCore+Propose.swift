import Consensus
import Primitives
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
    let waiting = WaitingProposal()
    return try await withCheckedThrowingContinuation { (continuation: CheckedContinuation<Outcome, any Error>) in
      waiting.continuation = continuation
      raft.propose(command) { [loop] result in
        if let timer = waiting.timer { loop.cancel(timer) }
        waiting.settle(result.map { $0.outcome ?? .unchanged(revision: .zero) })
      }
      guard waiting.continuation != nil else { return }
      let left = max(.zero, ContinuousClock.now.duration(to: deadline))
      waiting.timer = loop.schedule(after: left) { [weak self] in
        let quorum = self?.lostQuorum(since: .now, deadline: .now)
        let text = "a majority of the voters did not answer in time; the change may or may not come into force"
        waiting.settle(.failure(MeshError(.timeout, quorum?.code == .noQuorum ? "\(text); \(quorum?.message ?? "")" : text)))
      }
    }
  }
}

/// A proposal that someone waits for: settled once, by its outcome or by its deadline.
private final class WaitingProposal {
  var continuation: CheckedContinuation<Outcome, any Error>?
  var timer: TimerToken?

  func settle(_ result: Result<Outcome, MeshError>) {
    continuation?.resume(with: result.mapError { $0 as any Error })
    continuation = nil
  }
}
