import Dispatch
import Glibc
import Synchronization

/// Requests one after the other on a thread of its own, each counted.
final class LightTraffic: Sendable {
  struct Counts: Sendable {
    var succeeded = 0
    /// What went wrong, in words.
    var failures: [String] = []
  }

  private struct State {
    var counts = Counts()
    var isStopping = false
  }

  private let state = Mutex(State())
  private let thread = DispatchQueue(label: "light traffic")

  /// - Parameter keepsAlive: all requests share a connection as long as the peer keeps it.
  init(to address: String, _ path: String, keepsAlive: Bool = false) {
    thread.async { [self] in
      var client: RawClient?
      while !isStopping {
        do {
          let current = try client ?? RawClient(address, TestCluster.gatewayPort)
          let answer = try current.request("GET", path, headers: keepsAlive ? [] : ["connection: close"])
          client = keepsAlive && answer.headers["connection"] != "close" ? current : nil
          record(answer.status == 200 ? nil : "\(answer.status) \(answer.body)")
        } catch {
          client = nil
          record("\(error)")
        }
        Glibc.poll(nil, 0, 10)
      }
    }
  }

  private var isStopping: Bool { state.withLock { $0.isStopping } }
  var counts: Counts { state.withLock { $0.counts } }

  private func record(_ failure: String?) {
    state.withLock { state in
      if let failure { state.counts.failures.append(failure) } else { state.counts.succeeded += 1 }
    }
  }

  /// Waits until `more` further requests have succeeded.
  func waitForSuccesses(_ more: Int) throws {
    let before = counts.succeeded
    try eventually("\(more) more requests to succeed") { counts.succeeded >= before + more }
  }

  /// Ends the traffic; what it counted.
  func stop() -> Counts {
    state.withLock { $0.isStopping = true }
    thread.sync {}
    return counts
  }
}
