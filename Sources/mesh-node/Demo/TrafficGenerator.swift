import Primitives
import Synchronization

/// Opens the product page at a steady rate through the gateways in turn, and counts what it saw.
final class TrafficGenerator: Sendable {
  struct Sample: Sendable {
    var at: ContinuousClock.Instant
    var status: Int?
    var reviews: ReviewsSeen
    var elapsed: Duration
    var succeeded: Bool { status == 200 && reviews != .unknown }
  }

  private struct State {
    var samples: [Sample] = []
    var sent = 0
    var failed = 0
    var stopping = false
  }
  private let state = Mutex(State())
  private let threads: Mutex<[BackgroundThread]> = Mutex([])

  /// Samples kept for the live table and the tour.
  private static let samplesMax = 20_000

  /// Starts `rate` requests a second over `clients` threads; each client keeps its own schedule, so a slow answer
  /// delays only its own next request.
  init(gateways: [(address: String, port: UInt16)], rate: Double, clients: Int, cookie: String? = nil) {
    let interval = Duration.seconds(Double(clients) / rate)
    let start = ContinuousClock.now
    let started = (0..<clients).map { client in
      BackgroundThread { [self] in
        var next = start + interval * (Double(client) / Double(clients))
        var turn = client
        while !state.withLock({ $0.stopping }) {
          sleepUntil(next)
          next = max(next + interval, .now - interval)
          record(Self.open(gateways, startingAt: turn, cookie: cookie))
          turn += 1
        }
      }
    }
    threads.withLock { $0 = started }
  }

  /// Opens the page at one gateway; like a browser with several addresses, at the next when nobody takes the connection.
  private static func open(_ gateways: [(address: String, port: UInt16)], startingAt turn: Int, cookie: String?) -> PageAnswer?
  {
    for offset in gateways.indices {
      let gateway = gateways[(turn + offset) % gateways.count]
      let client = PageClient(address: gateway.address, port: gateway.port)
      switch client.attempt("GET", "/productpage", headers: cookie.map { ["cookie: \($0)"] } ?? []) {
      case .answered(let answer): return answer
      case .notConnected: continue
      case .broken: return nil
      }
    }
    return nil
  }

  private func record(_ answer: PageAnswer?) {
    let sample = Sample(
      at: .now, status: answer?.status, reviews: answer?.reviews ?? .unknown, elapsed: answer?.elapsed ?? .zero)
    state.withLock { state in
      state.sent += 1
      if !sample.succeeded { state.failed += 1 }
      state.samples.append(sample)
      if state.samples.count > Self.samplesMax { state.samples.removeFirst(Self.samplesMax / 2) }
    }
  }

  func stop() {
    state.withLock { $0.stopping = true }
    for thread in threads.withLock({ $0 }) { thread.join() }
  }

  var counts: (sent: Int, failed: Int) { state.withLock { ($0.sent, $0.failed) } }

  /// Requests that ended after `instant`.
  func samples(since instant: ContinuousClock.Instant) -> [Sample] {
    state.withLock { $0.samples.filter { $0.at >= instant } }
  }

  private func sleepUntil(_ instant: ContinuousClock.Instant) {
    while true {
      let left = ContinuousClock.now.duration(to: instant)
      guard left > .zero, !state.withLock({ $0.stopping }) else { return }
      pause(min(left, .milliseconds(100)))
    }
  }
}
