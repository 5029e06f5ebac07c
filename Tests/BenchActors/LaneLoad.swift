import Primitives
import Synchronization
import Transport

/// Round trips of urgent frames on an idle link, and while bulk fills it.
final class LaneLoad: Sendable {
  private let network: LinkNetwork
  private let waiting = Mutex<CheckedContinuation<Void, Never>?>(nil)
  private let isSent = Mutex(false)

  init(_ node: BenchNode) {
    network = node.network
    network.onFrame(.membership) { [weak self] _, _ in
      self?.waiting.withLock { waiting in
        defer { waiting = nil }
        return waiting
      }?.resume()
    }
  }

  /// One line of JSON: percentiles of both, in microseconds, and how quick the bulk was.
  func run(bulkMegabytes: Int) async throws -> String {
    var idle: [UInt32] = []
    for _ in 0..<1_000 {
      idle.append(try await roundTrip())
      try await Task.sleep(for: .milliseconds(1))
    }
    isSent.withLock { $0 = false }
    let start = ContinuousClock.now
    let bulk = Task { try await sendBulk(bulkMegabytes) }
    var loaded: [UInt32] = []
    while network.link(to: BenchNode.server) != nil, !isSent.withLock({ $0 }) {
      loaded.append(try await roundTrip())
      try await Task.sleep(for: .milliseconds(1))
    }
    try await bulk.value
    let seconds = (ContinuousClock.now - start).inSeconds
    let (a, b) = (idle.sorted(), loaded.sorted())
    return """
      {"idle": {"p50": \(a.share(0.5)), "p99": \(a.share(0.99)), "count": \(a.count)}, \
      "bulk": {"p50": \(b.share(0.5)), "p99": \(b.share(0.99)), "count": \(b.count)}, \
      "megabytes": \(bulkMegabytes), "seconds": \(seconds)}
      """
  }

  private func roundTrip() async throws -> UInt32 {
    let before = ContinuousClock.now
    await withCheckedContinuation { (continuation: CheckedContinuation<Void, Never>) in
      waiting.withLock { $0 = continuation }
      network.send(.membership, .urgent, to: BenchNode.server, body: [UInt8](repeating: 1, count: 64))
    }
    return UInt32(clamping: (ContinuousClock.now - before).inMicroseconds)
  }

  /// Keeps the bulk lane filled until all was handed over.
  private func sendBulk(_ megabytes: Int) async throws {
    let body = [UInt8](repeating: 2, count: 1 << 20)
    var left = megabytes
    while left > 0 {
      switch network.send(.catchUp, .bulk, to: BenchNode.server, body: body) {
      case .queued: left -= 1
      case .queueFull: try await Task.sleep(for: .milliseconds(2))
      case let result: throw BenchError("the bulk transfer ended: \(result)")
      }
    }
    while let link = await network.statistics().first, link.queuedBytes > 0 { try await Task.sleep(for: .milliseconds(2)) }
    isSent.withLock { $0 = true }
  }
}
