import Primitives
import Testing

@testable import Membership

/// Rules of the SWIM paper (§3–4) and of Lifeguard (§IV), each by its sentence.
@Suite struct SWIMPaperTests {
  @Test func `each message carries rumors, and each rumor is told λ log n times and then no more`() throws {  // SWIM §4.1
    var bench = try SWIMBench(others: 3)
    bench.wait(.seconds(20), answers: true)
    let news = try SWIMBench.record("c", 9)
    let effects = bench.tell([.alive(news)], from: bench.others[0]) + bench.wait(.seconds(5), answers: true)
    let told = effects.reduce(0) { sum, effect in
      guard case .sendDatagram(let message, _) = effect else { return sum }
      return sum + (message.rumors.contains(.alive(news)) ? 1 : 0)
    }
    #expect(told == bench.swim.configuration.retransmitFactor * SWIM.digits(bench.swim.liveCount))
  }

  @Test func `rumors that were told least often are told first`() throws {  // SWIM §4.1
    var queue = RumorQueue()
    let rumors = try (0..<3).map { Rumor.left(try NodeName("m\($0)"), incarnation: 1) }
    queue.enqueue(rumors[0])
    _ = queue.take(bytesMax: 1000, countMax: 1, transmissionsMax: 9)
    queue.enqueue(rumors[1])
    #expect(queue.take(bytesMax: 1000, countMax: 1, transmissionsMax: 9) == [rumors[1]])
    queue.enqueue(rumors[2])
    #expect(queue.take(bytesMax: 1000, countMax: 3, transmissionsMax: 9).first == rumors[2])
  }

  @Test func `a message carries no more rumors than fit a datagram`() throws {  // SWIM §4.1
    var bench = try SWIMBench(others: 3)
    bench.tell(
      try (0..<60).map { .alive(try SWIMBench.record("a-node-with-quite-a-long-name-\($0)", $0 + 20)) }, from: bench.others[0])
    for effect in bench.wait(.seconds(2)) {
      guard case .sendDatagram(let message, _) = effect else { continue }
      #expect(message.encoded().count <= MembershipLimits.datagramBytesMax)
    }
  }

  @Test func `suspect overrides alive of the same incarnation, and alive overrides neither it nor dead`() throws {  // §4.2
    var bench = try SWIMBench(others: 3)
    let accused = bench.others[2]
    bench.now = bench.now + .milliseconds(400)
    bench.tell([.suspect(accused.name, incarnation: 100, accuser: bench.others[0].name)], from: bench.others[0])
    #expect(bench.state(accused) == .suspect)
    bench.tell([.alive(accused)], from: bench.others[0])
    #expect(bench.state(accused) == .suspect)
    bench.wait(.seconds(8))
    #expect(bench.state(accused) == .dead)
    bench.tell([.alive(accused)], from: bench.others[0])
    #expect(bench.state(accused) == .dead)
    var newer = accused
    newer.incarnation = 101
    bench.tell([.alive(newer)], from: bench.others[0])
    #expect(bench.state(accused) == .alive)
  }

  @Test func `an accusation of an older incarnation counts for nothing`() throws {  // SWIM §4.2
    var bench = try SWIMBench(others: 3)
    bench.now = bench.now + .milliseconds(400)
    bench.tell([.suspect(bench.others[2].name, incarnation: 99, accuser: bench.others[0].name)], from: bench.others[0])
    #expect(bench.state(bench.others[2]) == .alive)
  }

  @Test func `only the member itself raises its incarnation`() throws {  // SWIM §4.2
    var bench = try SWIMBench(others: 3)
    bench.now = bench.now + .milliseconds(400)
    bench.tell([.suspect(bench.others[2].name, incarnation: 100, accuser: bench.others[0].name)], from: bench.others[0])
    #expect(bench.swim.member(bench.others[2].name)?.incarnation == 100)
    #expect(bench.swim.local.incarnation == 100)
  }

  @Test func `the members of a round are in random order, and another one in the next`() throws {  // SWIM §4.3
    var bench = try SWIMBench(others: 12)
    var probed: [NodeName] = []
    for effect in bench.wait(.seconds(4), answers: true) {
      if case .sendDatagram(let message, _) = effect, case .ping(_, let target) = message.body { probed.append(target) }
    }
    let rounds = [Array(probed[0..<12]), Array(probed[12..<24])]
    #expect(rounds.allSatisfy { Set($0).count == 12 })
    #expect(rounds[0] != rounds[1] && rounds[0] != rounds[0].sorted())
  }

  @Test func `probes come later and wait longer the less healthy this node is`() throws {  // Lifeguard §IV.A
    var sick = try SWIMBench(others: 3)
    for number in 0..<7 {
      sick.tell(
        [.suspect(sick.swim.local.name, incarnation: 100 + UInt64(number), accuser: sick.others[0].name)], from: sick.others[1])
    }
    #expect(sick.swim.localHealthScore == sick.swim.configuration.awarenessMax)
    let start = sick.swim.nextProbeAt
    sick.now = start
    sick.feed(.tick)
    let scale = sick.swim.configuration.awarenessMax + 1
    #expect(sick.swim.nextProbeAt == start + sick.swim.configuration.probeInterval / 2 * scale)
    #expect(sick.swim.probes.first?.indirectAt == start + sick.swim.configuration.probeTimeout * scale)
  }

  @Test func `a suspicion starts long and shrinks with the logarithm of independent accusers`() throws {  // Lifeguard §IV.B
    let start = Instant(nanoseconds: 0)
    var suspicion = Suspicion(
      incarnation: 1, accuser: try NodeName("a"), shortest: .seconds(1), longest: .seconds(6), expected: 3,
      ownProbeFailed: true,
      at: start)
    var timeouts = [suspicion.timeout]
    for accuser in ["a", "b", "b", "c", "d", "e"] {
      if suspicion.confirm(by: try NodeName(accuser)) { timeouts.append(suspicion.timeout) }
    }
    #expect(timeouts == [.seconds(6), .milliseconds(3500), .milliseconds(2040), .seconds(1)])
  }

  @Test func `who confirms a suspicion is told on, up to as many as shorten it`() throws {  // Lifeguard §IV.B
    var bench = try SWIMBench(others: 8)
    let accused = bench.others[7]
    bench.now = bench.now + .milliseconds(400)
    for number in 0..<6 {
      bench.tell([.suspect(accused.name, incarnation: 100, accuser: bench.others[number].name)], from: bench.others[number])
    }
    var tellers: Set<NodeName> = []
    for effect in bench.wait(.seconds(1)) {
      guard case .sendDatagram(let message, _) = effect else { continue }
      for case .suspect(accused.name, _, let accuser) in message.rumors where accuser != bench.swim.local.name {
        tellers.insert(accuser)
      }
    }
    #expect(tellers.count == 4, "the first accuser, and three who confirm")
  }

  @Test func `a helper says in time that the target did not answer it, and still passes a late answer on`() throws {  // §IV.A
    var bench = try SWIMBench(others: 3)
    let (asker, target) = (bench.others[0], bench.others[1])
    bench.feed(
      .datagram(
        SWIMMessage(sender: asker.name, registryDigest: 0, body: .pingRequest(sequence: 7, target: target.name)),
        from: asker.address))
    let relayed = try #require(bench.swim.relays.first)
    func answers(_ effects: [SWIM.Effect]) -> [SWIMMessage.Body] {
      effects.compactMap { if case .sendDatagram(let message, asker.address) = $0 { message.body } else { nil } }
    }
    let timeout = bench.swim.configuration.probeTimeout
    let early = answers(bench.wait(timeout * 4 / 5 + .milliseconds(1)))
    #expect(early.contains(.negativeAcknowledgement(sequence: 7)), "before the asker's own time is over")
    let late = bench.feed(
      .datagram(
        SWIMMessage(sender: target.name, registryDigest: 0, body: .acknowledgement(sequence: relayed.sequence)),
        from: target.address))
    #expect(answers(late).contains(.acknowledgement(sequence: 7)))
  }

  @Test func `a suspect that pings is told of the suspicion with the answer`() throws {  // Lifeguard §IV.C
    var bench = try SWIMBench(others: 3)
    let accused = bench.others[2]
    bench.now = bench.now + .milliseconds(400)
    bench.tell([.suspect(accused.name, incarnation: 100, accuser: bench.others[0].name)], from: bench.others[0])
    #expect(bench.ping(from: accused).first?.subject == accused.name)
    #expect(bench.ping(from: bench.others[1]).first?.subject != bench.others[1].name)
  }

  @Test func `a timer that comes late costs this node health and gives its suspects the time it missed`() throws {  // §IV.A
    var bench = try SWIMBench(others: 3)
    bench.wait(.milliseconds(400))
    let suspect = try #require(bench.swim.table.suspects.first)
    let before = try #require(bench.swim.table[suspect]?.suspicion?.deadline)
    let score = bench.swim.localHealthScore
    bench.now = bench.now + .milliseconds(700)
    bench.feed(.tick)
    #expect(bench.swim.localHealthScore > score)
    #expect(bench.swim.table[suspect]?.suspicion.map { $0.deadline >= before + .milliseconds(600) } == true)
  }
}
