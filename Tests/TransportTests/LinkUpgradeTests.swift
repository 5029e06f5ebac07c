import Primitives
import Testing

@testable import Transport

/// Nodes of three releases on real links: one behind the present one, the present one, and one ahead.
@Suite("Links between releases", .timeLimit(.minutes(1))) struct LinkReleaseTests {
  private static let behind = ProtocolRange(1...1)
  private static let present = ProtocolRange(1...2)
  private static let ahead = ProtocolRange(2...3)

  @Test("releases next to each other link and carry frames both ways", arguments: [behind, ahead])
  func neighbours(_ other: ProtocolRange) async throws {
    let near = try LinkNode("a", try Credentials("a").link(), versions: Self.present)
    let far = try LinkNode("b", try Credentials("b").link(), versions: other) { network in
      network.onFrame(.raft) { [unowned network] node, body in network.send(.raft, .urgent, to: node, body: body + [2]) }
    }
    let (answers, answered) = AsyncStream.makeStream(of: [UInt8].self)
    near.network.onFrame(.raft) { _, body in answered.yield(body) }
    near.network.setPeers([far.name: far.address])
    _ = try await near.log.up("b")
    _ = try await far.log.up("a")
    let link = try #require(near.network.link(to: far.name))
    _ = near.network.send(Frame(kind: .raft, lane: .urgent, body: [1]), on: link)
    var first = answers.makeAsyncIterator()
    #expect(await first.next() == [1, 2])
    await near.stop()
    await far.stop()
  }

  @Test("releases two apart do not link: both sides name both ranges, and say which to upgrade") func apart() async throws {
    let near = try LinkNode("a", try Credentials("a").link(), versions: Self.ahead)
    let far = try LinkNode("b", try Credentials("b").link(), versions: Self.behind)
    far.network.setPeers([near.name: near.address])
    // Whoever reads the other's greeting first refuses, and tells the other.
    for (log, own, other) in [(near.log, "2 to 3", "1 to 1"), (far.log, "1 to 1", "2 to 3")] {
      let (code, text) = try await log.first {
        if case .refused(let code, _, _, _, let text) = $0 { (code, text) } else { nil }
      }
      #expect(code == .versionMismatch)
      let words = [
        "it speaks link protocol \(other), this node \(own); upgrade the older one",
        "this node speaks link protocol \(own), it \(other); upgrade the older one",
      ]
      #expect(words.contains { text.contains($0) }, "\(text)")
    }
    #expect(!near.log.all.contains { if case .up = $0 { true } else { false } })
    await near.stop()
    await far.stop()
  }
}

@Suite("Clocks of peers", .timeLimit(.minutes(1))) struct LinkClockTests {
  @Test("a clock that is too far ahead or behind is noticed by both sides, with its sign", arguments: [90, -90])
  func differs(_ seconds: Int64) async throws {
    let near = try LinkNode("a", try Credentials("a").link())
    let far = try LinkNode("b", try Credentials("b").link(), clockAhead: seconds)
    near.network.setPeers([far.name: far.address])
    for (log, lead) in [(near.log, seconds), (far.log, -seconds)] {
      let said = try await log.first { if case .clockDiffers(_, let seconds) = $0 { seconds } else { nil } }
      // Whole seconds of two clocks that are read one after the other.
      #expect(abs(said - lead) <= 2, "\(said)")
    }
    await near.stop()
    await far.stop()
  }

  @Test("a difference within the tolerance is not worth a word") func tolerated() async throws {
    let near = try LinkNode("a", try Credentials("a").link())
    let far = try LinkNode("b", try Credentials("b").link(), clockAhead: LinkLimits.clockToleranceSeconds - 3)
    near.network.setPeers([far.name: far.address])
    _ = try await near.log.up("b")
    _ = try await far.log.up("a")
    for log in [near.log, far.log] {
      #expect(!log.all.contains { if case .clockDiffers = $0 { true } else { false } })
    }
    await near.stop()
    await far.stop()
  }
}
