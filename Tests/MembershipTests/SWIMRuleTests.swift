import Membership
import Primitives
import Testing

/// Sentences of the SWIM and Lifeguard papers, and the rules this implementation adds.
@Suite struct SWIMRuleTests {
  @Test func `a node that is suspected refutes with a higher incarnation`() throws {
    var bench = try SWIMBench(others: 3)
    let effects = bench.tell(
      [.suspect(bench.swim.local.name, incarnation: 100, accuser: bench.others[1].name)], from: bench.others[0])
    #expect(bench.swim.local.incarnation == 101)
    #expect(effects.contains(.incarnationRaised(101)))
    #expect(bench.swim.localHealthScore == 1)
  }

  @Test func `an alive message overrides a suspicion only with a higher incarnation`() throws {
    var bench = try SWIMBench(others: 3)
    bench.now = bench.now + .seconds(0)
    let accused = bench.others[2]
    bench.wait(.milliseconds(400))
    bench.tell([.suspect(accused.name, incarnation: 100, accuser: bench.others[0].name)], from: bench.others[0])
    #expect(bench.state(accused) == .suspect)
    bench.tell([.alive(accused)], from: bench.others[0])
    #expect(bench.state(accused) == .suspect)
    var refuted = accused
    refuted.incarnation = 101
    bench.tell([.alive(refuted)], from: bench.others[0])
    #expect(bench.state(accused) == .alive)
  }

  @Test func `a dead rumor from one member is a suspicion and no more`() throws {
    var bench = try SWIMBench(others: 5)
    bench.wait(.milliseconds(350))
    let accused = bench.others[4]
    bench.tell([.dead(accused.name, incarnation: 100, accuser: bench.others[0].name)], from: bench.others[0])
    #expect(bench.state(accused) == .suspect)
  }

  @Test func `word from the accused that is just old outweighs an accusation by hearsay`() throws {
    var bench = try SWIMBench(others: 3)
    let accused = bench.others[2]
    bench.feed(.evidenceOfLife(accused.name, at: bench.now))
    let effects = bench.tell([.dead(accused.name, incarnation: 100, accuser: bench.others[0].name)], from: bench.others[0])
    #expect(bench.state(accused) == .alive)
    let told = effects.contains {
      if case .sendDatagram(let message, accused.address) = $0 {
        message.rumors.contains { $0.subject == accused.name }
      } else {
        false
      }
    }
    #expect(told, "the accused hears of it, so that it can refute")
  }

  @Test func `a suspect is told of the suspicion before anything else`() throws {
    var bench = try SWIMBench(others: 3)
    let accused = bench.others[2]
    bench.wait(.milliseconds(350))
    let effects =
      bench.tell([.suspect(accused.name, incarnation: 100, accuser: bench.others[0].name)], from: bench.others[0])
      + bench.wait(.milliseconds(20))
    let told = effects.contains {
      if case .sendDatagram(let message, accused.address) = $0 {
        message.rumors.first?.subject == accused.name
      } else {
        false
      }
    }
    #expect(told)
  }

  @Test func `a probe that is not answered is tried through three others and the link`() throws {
    var bench = try SWIMBench(others: 8)
    let effects = bench.wait(.milliseconds(310))
    let asked = effects.filter { if case .sendDatagram(let m, _) = $0, case .pingRequest = m.body { true } else { false } }
    let streams = effects.filter { if case .sendStream(let m, _, _) = $0, case .ping = m.body { true } else { false } }
    #expect(asked.count >= 3 && asked.count % 3 == 0)
    #expect(!streams.isEmpty)
  }

  @Test func `every member is probed once in each round of the permutation`() throws {
    var bench = try SWIMBench(others: 6)
    var probed: [NodeName] = []
    while probed.count < 12 {
      for effect in bench.wait(.milliseconds(10)) {
        guard case .sendDatagram(let message, let address) = effect, case .ping(let sequence, let target) = message.body else {
          continue
        }
        probed.append(target)
        let ack = SWIMMessage(sender: target, registryDigest: 0, body: .acknowledgement(sequence: sequence))
        bench.feed(.datagram(ack, from: address))
      }
    }
    #expect(Set(probed[6..<12]).count == 6)
  }

  @Test func `an answered probe lowers the local health score and missing nacks raise it`() throws {
    var bench = try SWIMBench(others: 4)
    bench.wait(.milliseconds(700))
    #expect(bench.swim.localHealthScore > 0)
  }

  @Test func `an incarnation far above what the owner said is not believed, and the owner is asked`() throws {
    var bench = try SWIMBench(others: 3)
    var claimed = bench.others[2]
    claimed.incarnation = 1_000_000
    let effects = bench.tell([.alive(claimed)], from: bench.others[0])
    #expect(bench.swim.member(claimed.name)?.incarnation == 100)
    #expect(effects.contains(.claimRejected(.farIncarnation(claimed.name, claimed: 1_000_000))))
    #expect(
      effects.contains { if case .sendStream(let m, claimed.name, _) = $0, case .introduction = m.body { true } else { false } }
    )
    bench.stream(.introduction(claimed, wantsReply: false), from: claimed)
    #expect(bench.swim.member(claimed.name)?.incarnation == 1_000_000)
  }

  @Test func `a third party cannot move a member to another address`() throws {
    var bench = try SWIMBench(others: 3)
    var moved = MemberRecord(name: bench.others[2].name, address: NodeAddress(host: "10.9.9.9", port: 1), incarnation: 101)
    let effects = bench.tell([.alive(moved)], from: bench.others[0])
    #expect(bench.swim.member(moved.name)?.address == bench.others[2].address)
    #expect(effects.contains(.claimRejected(.addressMoved(moved.name, to: moved.address))))
    moved.incarnation = 102
    bench.stream(.introduction(moved, wantsReply: false), from: moved)
    #expect(bench.swim.member(moved.name)?.address == moved.address)
  }

  @Test func `a message on a link in another member's name is refused`() throws {
    var bench = try SWIMBench(others: 3)
    let message = SWIMMessage(sender: bench.others[1].name, registryDigest: 0, body: .gossip)
    let effects = bench.feed(.stream(message, from: bench.others[0].name))
    #expect(effects == [.claimRejected(.senderMismatch(claimed: bench.others[1].name, peer: bench.others[0].name))])
  }

  @Test func `an unknown accuser and a self-accusation count for nothing`() throws {
    var bench = try SWIMBench(others: 3)
    bench.wait(.milliseconds(350))
    let accused = bench.others[2]
    let stranger = try NodeName("stranger")
    for accuser in [stranger, accused.name] {
      let effects = bench.tell([.dead(accused.name, incarnation: 100, accuser: accuser)], from: bench.others[0])
      #expect(effects.contains(.claimRejected(.accuser(accuser, of: accused.name))))
    }
  }

  @Test func `the answer to a stranger's ping is no longer than the ping`() throws {
    var bench = try SWIMBench(others: 3)
    let ping = SWIMMessage(
      sender: try NodeName("x"), registryDigest: 0, body: .ping(sequence: 7, target: bench.swim.local.name))
    let from = NodeAddress(host: "10.9.9.9", port: 9)
    let answers = bench.feed(.datagram(ping, from: from)).compactMap { effect -> SWIMMessage? in
      if case .sendDatagram(let message, from) = effect { message } else { nil }
    }
    #expect(answers.count == 1)
    #expect(answers.allSatisfy { $0.encoded().count <= ping.encoded().count })
  }

  @Test func `an incarnation at the end of the range neither traps nor is followed`() throws {
    var bench = try SWIMBench(others: 3)
    let name = bench.swim.local.name
    bench.tell(
      [.suspect(name, incarnation: MembershipLimits.incarnationMax, accuser: bench.others[1].name)], from: bench.others[0])
    #expect(bench.swim.local.incarnation == 100)
  }
}
