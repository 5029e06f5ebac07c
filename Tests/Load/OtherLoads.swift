import Glibc
import Primitives
import Transport

/// A new connection for every request: how many a second, and at what latency from connect to answer.
final class ConnectLoad {
  private let options: Options

  init(_ options: Options) throws { self.options = options }

  func run() throws {
    let poller = try Poller()
    let address = try options.address("to")
    let request = try options.request()
    let tls = try options.tls()
    let buffer = UnsafeMutableRawBufferPointer.allocate(byteCount: 64 * 1024, alignment: 16)
    defer { buffer.deallocate() }
    var clients: [Client] = []
    var histogram = Histogram()
    var errors = 0
    func open(_ id: Int) throws {
      let client = try Client(to: address, tls: tls)
      client.meantAt = Poller.now
      if id < clients.count { clients[id] = client } else { clients.append(client) }
      try poller.add(client.descriptor, id)
    }
    for id in 0..<(try options.number("connections", 16)) { try open(id) }
    let start = Poller.now
    let end = start + .seconds(try options.number("seconds", 3))
    while Poller.now < end {
      poller.wait(until: end) { id in
        let client = clients[id]
        if client.state == .connecting || client.state == .handshake, client.connected() { client.send(request) }
        if client.receive(buffer) {
          histogram.add(UInt64((Poller.now - client.meantAt).nanosecondsClamped))
          client.close()
        } else if client.state == .closed {
          errors += 1
        }
        if client.state == .closed, (try? open(id)) == nil { errors += 1 }
      }
    }
    let perSecond = Int(Double(histogram.total) / (Poller.now - start).inSeconds)
    say(#"{"requests":\#(histogram.total),"errors":\#(errors),"perSecond":\#(perSecond),\#(histogram.members)}"#)
  }
}

/// Many connections that did one request each and now do nothing.
final class IdleLoad {
  private let options: Options

  init(_ options: Options) throws { self.options = options }

  func run() throws {
    let address = try options.address("to")
    let request = try options.request()
    let tls = try options.tls()
    let buffer = UnsafeMutableRawBufferPointer.allocate(byteCount: 64 * 1024, alignment: 16)
    defer { buffer.deallocate() }
    let poller = try Poller()
    let wanted = try options.number("connections", 10_000)
    var clients: [Client] = []
    var answered = 0
    // A few at a time, so that no queue of the kernel overflows.
    while answered < wanted {
      while clients.count < min(wanted, answered + 32) {
        clients.append(try Client(to: address, tls: tls))
        try poller.add(clients[clients.count - 1].descriptor, clients.count - 1)
      }
      let before = answered
      poller.wait(until: Poller.now + .seconds(5)) { id in
        let client = clients[id]
        if client.state == .connecting || client.state == .handshake, client.connected() { client.send(request) }
        if client.receive(buffer) { answered += 1 }
      }
      if clients.contains(where: { $0.state == .closed }) || answered == before && clients.count == answered {
        throw LoadError("a connection of \(clients.count) was closed")
      }
    }
    say(#"{"idle":\#(answered)}"#)
    while getchar() != EOF {}
  }
}

/// Bytes towards a sink, as many as are taken.
final class PushLoad {
  private let options: Options

  init(_ options: Options) throws { self.options = options }

  func run() throws {
    let poller = try Poller()
    let address = try options.address("to")
    let tls = try options.tls()
    let block = UnsafeMutableRawBufferPointer.allocate(byteCount: 64 * 1024, alignment: 16)
    block.initializeMemory(as: UInt8.self, repeating: 0x61)
    defer { block.deallocate() }
    var clients: [Client] = []
    for id in 0..<(try options.number("connections", 4)) {
      clients.append(try Client(to: address, tls: tls))
      try poller.add(clients[id].descriptor, id)
    }
    let start = Poller.now
    let end = start + .seconds(try options.number("seconds", 3))
    var bytes = 0
    while Poller.now < end {
      poller.wait(until: end) { id in
        let client = clients[id]
        if client.state == .connecting || client.state == .handshake, !client.connected() { return }
        // Bounded, so that every connection gets its turn; an edge that is used up here comes again by the next write.
        while client.state == .idle, Poller.now < end {
          switch client.push(UnsafeRawBufferPointer(block)) {
          case .bytes(let count): bytes += count
          case .wouldBlock: return
          case .endOfStream, .failed: client.close()
          }
        }
      }
    }
    let perSecond = Int(Double(bytes) / (Poller.now - start).inSeconds)
    say(#"{"requests":\#(bytes / 1_000_000),"errors":\#(clients.count { $0.state == .closed }),"perSecond":\#(perSecond)}"#)
  }
}
