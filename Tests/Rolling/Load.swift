import Glibc
import Synchronization

/// One client: sends requests at fixed times whatever becomes of them, so that a slow answer delays nothing but itself.
final class Client: Sendable {
  /// Where its requests go in.
  enum Group: String, CaseIterable, Sendable {
    case gateway = "through the gateway"
    case node = "workload to workload"
    /// From a workload of a node that is itself restarted: nothing listens while it is away, but no request that it
    /// took may be lost.
    case restarted = "from workloads of restarted nodes"
  }

  let group: Group
  let method: String
  let keepsAlive: Bool
  private let name: String
  private let address: String
  private let port: UInt16
  private let period: UInt64
  private let tally: Tally

  init(
    _ name: String, _ group: Group, _ method: String, keepsAlive: Bool, to address: String, _ port: UInt16, period: UInt64,
    _ tally: Tally
  ) {
    self.name = name
    self.group = group
    self.method = method
    self.keepsAlive = keepsAlive
    self.address = address
    self.port = port
    self.period = period
    self.tally = tally
  }

  func run(from start: UInt64) {
    var connection: Connection?
    var number: UInt64 = 0
    while !tally.isStopping {
      let due = start + number * period
      let now = nanoseconds()
      if due > now { sleep(milliseconds: Int((due - now + 999_999) / 1_000_000)) }
      number += 1
      request("\(name)-\(number)", due, &connection)
    }
    connection = nil
    tally.clientEnded()
  }

  private func request(_ id: String, _ due: UInt64, _ connection: inout Connection?) {
    // As every client does: a kept connection that the server has closed meanwhile is not used.
    if connection?.isClosedByPeer == true { connection = nil }
    if connection == nil {
      switch Network.connect(address, port, timeoutSeconds: 20) {
      case .success(let descriptor): connection = Connection(descriptor)
      case .failure(let error):
        if group == .restarted, error.code == ECONNREFUSED { return tally.away() }
        return tally.failed(self, "connect: \(error.text)")
      }
    }
    guard let current = connection else { return }
    let body = method == "POST" ? "payload of \(id)" : ""
    let outcome = current.exchange(
      "\(method) /\(id) HTTP/1.1\r\nhost: echo\r\nx-id: \(id)\r\ncontent-length: \(body.utf8.count)\r\n"
        + (keepsAlive ? "\r\n" : "connection: close\r\n\r\n") + body)
    switch outcome {
    case .message(let answer):
      if !keepsAlive || answer.fields["connection"] == "close" { connection = nil }
      let isRight = answer.start.count > 1 && answer.start[1] == "200" && answer.body.contains(" \(id) ")
      guard isRight else {
        let status = answer.start.count > 1 ? String(answer.start[1]) : "no status"
        return tally.failed(self, "\(status) \(answer.body.prefix(120))")
      }
      tally.succeeded(self, id, nanoseconds() - due)
    case .closed(let isPartial):
      connection = nil
      tally.failed(
        self, "closed \(isPartial ? "in the middle of" : "without") an answer\(current.served > 0 ? ", kept connection" : "")")
    case .failed(let code):
      connection = nil
      tally.failed(self, "\(String(cString: strerror(code)))\(current.served > 0 ? ", kept connection" : "")")
    case .malformed(let text):
      connection = nil
      tally.failed(self, "not an answer: \(text.prefix(80))")
    }
  }
}

private final class Connection {
  private let descriptor: Int32
  private var reader: MessageReader
  private(set) var served = 0

  init(_ descriptor: Int32) {
    self.descriptor = descriptor
    reader = MessageReader(descriptor)
  }

  deinit { close(descriptor) }

  var isClosedByPeer: Bool {
    var byte: UInt8 = 0
    return recv(descriptor, &byte, 1, Int32(MSG_PEEK) | Int32(MSG_DONTWAIT)) >= 0 || errno != EAGAIN
  }

  func exchange(_ request: String) -> MessageReader.Outcome {
    if let code = Network.send(descriptor, request), code != EPIPE { return .failed(code) }
    let outcome = reader.next()
    if case .message = outcome { served += 1 }
    return outcome
  }
}

/// What the clients saw.
final class Tally: Sendable {
  struct Count: Sendable {
    var succeeded = 0
    var failed = 0
  }
  struct State: Sendable {
    var counts: [String: Count] = [:]
    var reasons: [String: Int] = [:]
    var accepted: [String] = []
    var slowest: UInt64 = 0
    var latencies: [UInt64] = []
    var away = 0
    var running = 0
    var isStopping = false
    /// Failures that nobody was told of yet.
    var news: [String] = []
  }
  private let state = Mutex(State())

  var isStopping: Bool { state.withLock { $0.isStopping } }
  var now: State { state.withLock { $0 } }

  func clientStarted() { state.withLock { $0.running += 1 } }
  func clientEnded() { state.withLock { $0.running -= 1 } }
  func away() { state.withLock { $0.away += 1 } }

  func succeeded(_ client: Client, _ id: String, _ latency: UInt64) {
    state.withLock { state in
      state.counts[key(client), default: Count()].succeeded += 1
      state.slowest = max(state.slowest, latency)
      state.latencies.append(latency)
      if client.method == "POST" { state.accepted.append(id) }
    }
  }

  func failed(_ client: Client, _ reason: String) {
    state.withLock { state in
      state.counts[key(client), default: Count()].failed += 1
      let text = "\(key(client)): \(reason)"
      state.reasons[text, default: 0] += 1
      if state.news.count < 20 { state.news.append(text) }
    }
  }

  private func key(_ client: Client) -> String {
    "\(client.method) \(client.group.rawValue)\(client.keepsAlive ? "" : ", a connection each")"
  }

  func takeNews() -> [String] {
    state.withLock { state in
      defer { state.news = [] }
      return state.news
    }
  }

  func stop() {
    state.withLock { $0.isStopping = true }
    while state.withLock({ $0.running > 0 }) { sleep(milliseconds: 20) }
  }
}
