import HTTP2
import HTTPCodec
import Primitives
import Testing

/// What connections take from the system.
@Suite struct MemoryTests {
  private func exchange(_ pool: HTTP2MemoryPool, rounds: [Int]) throws -> [Int] {
    let client = HTTP2Session(.client, pool: pool)
    let server = HTTP2Session(.server, pool: pool)
    let events = Recorder()
    events.onRequest = { stream, session in
      session.respond(stream, response(200, [("content-type", "text/plain")]), ends: false)
      _ = [UInt8](repeating: 1, count: 1000).withUnsafeBufferPointer { session.write(stream, $0) }
      session.end(stream)
    }
    let answers = Recorder()
    server.events = events
    client.events = answers
    var there: [UInt8] = []
    var back: [UInt8] = []
    let head = request("GET /reviews/1", [("x-request-id", "4711"), ("user-agent", "test"), ("cookie", "a=b")])
    var allocations: [Int] = []
    for count in rounds {
      for _ in 0..<count {
        for _ in 0..<8 { _ = client.request(head, ends: true) }
        for _ in 0..<2 {
          client.send(into: &there)
          try there.withUnsafeBufferPointer { try server.receive($0, now: Instant(nanoseconds: 1)) }
          there.removeAll(keepingCapacity: true)
          server.send(into: &back)
          try back.withUnsafeBufferPointer { try client.receive($0, now: Instant(nanoseconds: 1)) }
          back.removeAll(keepingCapacity: true)
        }
      }
      allocations.append(pool.systemAllocations)
    }
    #expect(
      answers.seen.filter { if case .closed(_, .noError, false) = $0 { true } else { false } }.count == rounds.reduce(0, +) * 8)
    return allocations
  }

  @Test func `The library asks the system for nothing once a connection is warm`() throws {
    let allocations = try exchange(HTTP2MemoryPool(), rounds: [50, 200])
    #expect(allocations[0] > 0)
    #expect(allocations[1] == allocations[0])
  }

  @Test func `Connections that come and go use the memory of those before`() throws {
    let pool = HTTP2MemoryPool()
    let first = try exchange(pool, rounds: [20])[0]
    for _ in 0..<10 { _ = try exchange(pool, rounds: [20]) }
    // Blocks above the largest class, the frame buffers, are the system's each time.
    #expect(pool.systemAllocations - first < 10 * 12)
    #expect(pool.idleBytes <= 4 * 1024 * 1024)
  }
}
