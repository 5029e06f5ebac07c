import Dispatch
import Primitives
import Synchronization
import Testing

@testable import Transport

/// Who waits for which answer.
private final class AwaitedAnswers: Sendable {
  private let waiting = Mutex<[UInt64: CheckedContinuation<[UInt8], Never>]>([:])

  func of(_ id: UInt64, ask: () -> Void) async -> [UInt8] {
    await withCheckedContinuation { continuation in
      waiting.withLock { $0[id] = continuation }
      ask()
    }
  }

  func arrived(_ frame: Frame) { waiting.withLock { $0.removeValue(forKey: frame.id) }?.resume(returning: frame.body) }
}

@Suite("Frames written by who sends them", .timeLimit(.minutes(1))) struct DirectWriteTests {
  @Test("the only call under way is written while the loop is busy; the ones beside it wait for the loop") func direct()
    async throws
  {
    let near = try LinkNode("a", try Credentials("a").link())
    let arrived = Mutex<[UInt64]>([])
    let far = try LinkNode("b", try Credentials("b").link()) { network in
      network.onFrame([.request]) { _, frame in arrived.withLock { $0.append(frame.id) } }
    }
    near.network.setPeers([far.name: far.address])
    _ = try await near.log.up("b")
    // Whatever the link had to write is written.
    _ = await near.network.statistics()
    let link = try #require(near.network.link(to: far.name))
    let isHeld = Atomic(false)
    let resume = DispatchSemaphore(value: 0)
    near.loop.post {
      isHeld.store(true, ordering: .releasing)
      resume.wait()
    }
    try await eventually { isHeld.load(ordering: .acquiring) }
    #expect(near.network.send(Frame(kind: .request, lane: .calls, id: 1, body: [1]), on: link) == .queued)
    try await eventually { arrived.withLock { $0 } == [1] }
    #expect(near.network.send(Frame(kind: .request, lane: .calls, id: 2, body: [2]), on: link) == .queued)
    #expect(near.network.send(Frame(kind: .request, lane: .calls, id: 3, body: [3]), on: link) == .queued)
    #expect(arrived.withLock { $0 } == [1])
    resume.signal()
    try await eventually { arrived.withLock { $0 } == [1, 2, 3] }
    await near.stop()
    await far.stop()
  }

  @Test("callers and the loop write one connection without breaking it", arguments: [1, 4])
  func storm(callers: Int) async throws {
    let near = try LinkNode("a", try Credentials("a").link())
    let far = try LinkNode("b", try Credentials("b").link()) { network in
      network.onFrame([.request]) { [unowned network] peer, frame in
        _ = network.send(Frame(kind: .reply, lane: .calls, id: frame.id, body: frame.body), on: peer.link)
      }
    }
    let answers = AwaitedAnswers()
    near.network.onFrame([.reply]) { _, frame in answers.arrived(frame) }
    near.network.setPeers([far.name: far.address])
    _ = try await near.log.up("b")
    let link = try #require(near.network.link(to: far.name))
    await withTaskGroup(of: Void.self) { group in
      for caller in 0..<callers {
        group.addTask {
          for number in 0..<(1_000 / callers) {
            let id = UInt64(caller * 1_000 + number)
            let body = [UInt8](repeating: UInt8(truncatingIfNeeded: id), count: number * 37 % 5_000)
            // Now and then the loop has something of its own to write.
            if number % 10 == 0 { near.network.send(.raft, .urgent, to: far.name, body: body) }
            let answer = await answers.of(id) {
              _ = near.network.send(Frame(kind: .request, lane: .calls, id: id, body: body), on: link)
            }
            #expect(answer == body)
          }
        }
      }
    }
    await near.stop()
    await far.stop()
  }
}
