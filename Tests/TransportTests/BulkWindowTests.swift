import Dispatch
import Primitives
import Synchronization
import Testing

@testable import Transport

@Suite("Bulk on its way", .timeLimit(.minutes(1))) struct BulkWindowTests {
  @Test("no more goes than the window, and each answer opens what the peer has read") func window() throws {
    var window = BulkWindow()
    let part = LinkLimits.bulkMarkBytes
    var marks: [UInt64] = []
    while window.room > 0 { if let mark = window.take(part / 4) { marks.append(mark) } }
    #expect(marks.count == LinkLimits.bulkWindowBytes / part)
    #expect(Set(marks).count == marks.count)
    for (number, mark) in marks.enumerated() {
      let isMark = window.answered(mark)
      #expect(isMark)
      #expect(window.room == (number + 1) * part)
    }
  }

  @Test("an answer to nothing, twice, or out of order opens nothing") func mistakes() throws {
    var window = BulkWindow()
    let marks = (0..<2).compactMap { _ in window.take(LinkLimits.bulkWindowBytes / 2) }
    try #require(marks.count == 2)
    let (outOfOrder, unknown, time) = (window.answered(marks[1]), window.answered(.max), window.answered(12_345))
    #expect(outOfOrder && unknown, "these have the form of marks")
    #expect(!time)
    #expect(window.room == 0)
    for _ in 0..<2 { _ = window.answered(marks[0]) }
    #expect(window.room == LinkLimits.bulkWindowBytes / 2)
  }

  @Test("a transfer never waits for a mark that was not made") func residue() {
    var window = BulkWindow()
    _ = window.take(LinkLimits.bulkMarkBytes - 1)
    #expect(window.room > LinkLimits.bulkMarkBytes, "what has no mark leaves room for enough to make one")
  }

  @Test("while bulk may not go, frames of other lanes do") func lanes() {
    var queues = LaneQueues()
    for lane in [Lane.bulk, .calls, .urgent] {
      _ = queues.append(Frame(kind: .catchUp, lane: lane, body: [1, 2, 3]))
    }
    var batch: [UInt8] = []
    let none = queues.take(into: &batch, limit: 1_000, bulkRoom: 0)
    #expect(none == 0)
    #expect(batch.count == 2 * (FrameHeader.byteCount + 3))
    #expect(queues.count(.bulk) == 1)
    batch = []
    let all = queues.take(into: &batch, limit: 1_000, bulkRoom: 1)
    #expect(all == FrameHeader.byteCount + 3)
    #expect(queues.isEmpty)
  }

  @Test("a peer that reads nothing has at most a window of bulk before its urgent frames") func slowReader() async throws {
    let near = try LinkNode("a", try Credentials("a").link())
    let arrived = Mutex<[FrameKind]>([])
    let resume = DispatchSemaphore(value: 0)
    let far = try LinkNode("b", try Credentials("b").link()) { network in
      network.onFrame([.catchUp, .raft]) { _, frame in
        let isFirst = arrived.withLock { arrived in
          arrived.append(frame.kind)
          return arrived.count == 1
        }
        if isFirst { resume.wait() }
      }
    }
    near.network.setPeers([far.name: far.address])
    _ = try await near.log.up("b")
    // The kernel would take some megabytes of it.
    let (count, part) = (256, [UInt8](repeating: 1, count: 65_536))
    for _ in 0..<count { #expect(near.network.send(.catchUp, .bulk, to: far.name, body: part) == .queued) }
    try await eventually { arrived.withLock { $0.count } > 0 }
    var sent: UInt64 = 0
    while let now = await near.network.statistics().first?.bytesSent, now != sent {
      sent = now
      try await Task.sleep(for: .milliseconds(20))
    }
    #expect(near.network.send(.raft, .urgent, to: far.name, body: [1]) == .queued)
    resume.signal()
    try await eventually { arrived.withLock { $0.count } == count + 1 }
    let before = try #require(arrived.withLock { $0.firstIndex(of: .raft) })
    #expect(before * part.count <= 2 * LinkLimits.bulkWindowBytes, "\(before) parts were before the urgent frame")
    await near.stop()
    await far.stop()
  }
}
