import Membership
import Primitives

/// One node `a`, its clock, and others that it knows first hand.
struct SWIMBench {
  var swim: SWIM
  var now = Instant(nanoseconds: 1_000_000_000)
  let others: [MemberRecord]

  init(others count: Int) throws {
    swim = SWIM(local: try Self.record("a", 1), seed: 1, at: now)
    others = try (0..<count).map { try Self.record("b\($0)", $0 + 2) }
    for other in others { stream(.introduction(other, wantsReply: false), from: other) }
  }

  static func record(_ name: String, _ host: Int, incarnation: UInt64 = 100) throws -> MemberRecord {
    MemberRecord(
      name: try NodeName(name), address: NodeAddress(host: "10.0.0.\(host)", port: 15010), incarnation: incarnation)
  }

  @discardableResult
  mutating func feed(_ input: SWIM.Input) -> [SWIM.Effect] {
    var effects: [SWIM.Effect] = []
    swim.handle(input, at: now, into: &effects)
    return effects
  }

  @discardableResult
  mutating func stream(_ body: SWIMMessage.Body, from: MemberRecord, rumors: [Rumor] = []) -> [SWIM.Effect] {
    feed(.stream(SWIMMessage(sender: from.name, registryDigest: 0, body: body, rumors: rumors), from: from.name))
  }

  @discardableResult
  mutating func tell(_ rumors: [Rumor], from: MemberRecord) -> [SWIM.Effect] {
    feed(.datagram(SWIMMessage(sender: from.name, registryDigest: 0, body: .gossip, rumors: rumors), from: from.address))
  }

  /// The rumors of the answer to a ping.
  mutating func ping(from: MemberRecord) -> [Rumor] {
    let ping = SWIMMessage.Body.ping(sequence: 1, target: swim.local.name)
    let effects = feed(.datagram(SWIMMessage(sender: from.name, registryDigest: 0, body: ping), from: from.address))
    for case .sendDatagram(let message, from.address) in effects {
      if case .acknowledgement(1) = message.body { return message.rumors }
    }
    return []
  }

  /// Serves the timer until the time is over; every ping is answered by its target at once when `answers`.
  @discardableResult
  mutating func wait(_ time: Duration, answers: Bool = false) -> [SWIM.Effect] {
    let end = now + time
    var all: [SWIM.Effect] = []
    while let due = swim.nextDeadline, due <= end {
      now = max(now, due)
      let effects = feed(.tick)
      all += effects
      guard answers else { continue }
      for case .sendDatagram(let message, let address) in effects {
        guard case .ping(let sequence, let target) = message.body else { continue }
        feed(
          .datagram(SWIMMessage(sender: target, registryDigest: 0, body: .acknowledgement(sequence: sequence)), from: address))
      }
    }
    now = end
    return all
  }

  func state(_ record: MemberRecord) -> MemberState? { swim.member(record.name)?.state }
}
