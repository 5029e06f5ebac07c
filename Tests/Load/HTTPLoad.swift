import Glibc
import Primitives
import Transport

/// Requests over kept connections: closed loop (each connection asks again when it has its answer), or open loop.
///
/// In the open loop requests begin by a timetable. One that finds no free connection waits, and its wait counts: latency
/// runs from the moment a request was meant to begin, so a slow proxy cannot slow its own measurement down.
final class HTTPLoad {
  private let poller = try? Poller()
  private let options: Options
  private let address: SocketAddress
  private let request: [UInt8]
  private var clients: [Client] = []
  private var free: [Int] = []
  private var waiting: [Instant] = []
  private var firstWaiting = 0
  private var histogram = Histogram()
  private var errors = 0
  private var done = 0
  private let buffer = UnsafeMutableRawBufferPointer.allocate(byteCount: 256 * 1024, alignment: 16)
  private var isClosedLoop = true
  private var isOver = false

  init(_ options: Options) throws {
    self.options = options
    address = try options.address("to")
    request = try options.request()
  }

  deinit { buffer.deallocate() }

  func run() throws {
    guard let poller else { throw LoadError("no event poll") }
    let tls = try options.tls()
    for id in 0..<(try options.number("connections", 64)) {
      let client = try Client(to: address, tls: tls)
      clients.append(client)
      try poller.add(client.descriptor, id)
    }
    let connectBy = Poller.now + .seconds(10)
    while free.count < clients.count, Poller.now < connectBy { poller.wait(until: connectBy) { connect($0) } }
    guard !free.isEmpty else { throw LoadError("no connection to \(address) came about") }
    let rate = try options.number("rate", 0)
    let seconds = try options.number("seconds", 3)
    let start = Poller.now
    isClosedLoop = rate == 0
    if isClosedLoop {
      closedLoop(poller, until: start + .seconds(seconds))
    } else {
      openLoop(poller, rate: rate, from: start, seconds: seconds)
    }
    let elapsed = (Poller.now - start).inSeconds
    let perSecond = Int(Double(done) / elapsed)
    say(#"{"requests":\#(done),"errors":\#(errors),"perSecond":\#(perSecond),\#(histogram.members)}"#)
  }

  private func connect(_ id: Int) {
    if clients[id].state == .connecting || clients[id].state == .handshake, clients[id].connected() { free.append(id) }
  }

  private func closedLoop(_ poller: Poller, until end: Instant) {
    for id in free { begin(id, meantAt: Poller.now) }
    free = []
    while Poller.now < end { poller.wait(until: end) { progress($0) } }
  }

  private func openLoop(_ poller: Poller, rate: Int, from start: Instant, seconds: Int) {
    let total = rate * seconds
    var planned = 0
    func due(_ index: Int) -> Instant { start + .nanoseconds(Int64(index) * 1_000_000_000 / Int64(rate)) }
    while planned < total {
      let now = Poller.now
      while planned < total, due(planned) <= now {
        if let id = free.popLast() { begin(id, meantAt: due(planned)) } else { waiting.append(due(planned)) }
        planned += 1
      }
      poller.wait(until: due(planned)) { progress($0) }
    }
    // What is on its way may still arrive; what never does counts as an error.
    let last = Poller.now + .seconds(2)
    while done + errors < total, Poller.now < last { poller.wait(until: last) { progress($0) } }
    errors += max(0, total - done - errors)
  }

  private func begin(_ id: Int, meantAt: Instant) {
    clients[id].meantAt = meantAt
    clients[id].send(request)
    if clients[id].state == .closed { lost(id) }
  }

  private func progress(_ id: Int) {
    if clients[id].state == .connecting { return connect(id) }
    guard clients[id].state == .waiting else { return }
    guard clients[id].receive(buffer) else {
      if clients[id].state == .closed { lost(id) }
      return
    }
    done += 1
    if clients[id].status >= 400 { errors += 1 }
    histogram.add(UInt64((Poller.now - clients[id].meantAt).nanosecondsClamped))
    if clients[id].state == .closed { return reopen(id) }
    if isClosedLoop { return begin(id, meantAt: Poller.now) }
    if firstWaiting < waiting.count {
      let meantAt = waiting[firstWaiting]
      firstWaiting += 1
      return begin(id, meantAt: meantAt)
    }
    free.append(id)
  }

  private func lost(_ id: Int) {
    errors += 1
    reopen(id)
  }

  private func reopen(_ id: Int) {
    guard let client = try? Client(to: address, tls: nil) else { return }
    clients[id] = client
    try? poller?.add(client.descriptor, id)
  }
}
