import Membership
import Primitives
import Testing

@Suite struct SWIMMessageTests {
  static func label(_ g: inout SeededGenerator) throws -> NodeName { try NodeName("n\(g.below(1000))") }

  static func record(_ g: inout SeededGenerator) throws -> MemberRecord {
    MemberRecord(
      name: try label(&g), address: NodeAddress(host: "10.0.0.\(g.below(255))", port: UInt16(truncatingIfNeeded: g.next())),
      incarnation: g.below(MembershipLimits.incarnationMax + 1), locality: g.chance(0.5) ? "r/z/s" : "",
      protocols: ProtocolRange(1...UInt16(1 + g.below(9))),
      metadata: (0..<g.below(65)).map { _ in UInt8(truncatingIfNeeded: g.next()) })
  }

  static func rumor(_ g: inout SeededGenerator) throws -> Rumor {
    let incarnation = g.below(MembershipLimits.incarnationMax + 1)
    return switch g.below(4) {
    case 0: .alive(try record(&g))
    case 1: .suspect(try label(&g), incarnation: incarnation, accuser: try label(&g))
    case 2: .dead(try label(&g), incarnation: incarnation, accuser: try label(&g))
    default: .left(try label(&g), incarnation: incarnation)
    }
  }

  static func message(_ g: inout SeededGenerator) throws -> SWIMMessage {
    let sequence = UInt32(truncatingIfNeeded: g.next())
    let body: SWIMMessage.Body =
      switch g.below(7) {
      case 0: .ping(sequence: sequence, target: try label(&g))
      case 1: .pingRequest(sequence: sequence, target: try label(&g))
      case 2: .acknowledgement(sequence: sequence)
      case 3: .negativeAcknowledgement(sequence: sequence)
      case 4: .gossip
      case 5: .introduction(try record(&g), wantsReply: g.chance(0.5))
      default:
        .synchronisation(
          try (0..<g.below(5)).map { _ in
            .init(record: try record(&g), state: MemberState(rawValue: UInt8(g.below(4))) ?? .alive)
          },
          wantsReply: g.chance(0.5))
      }
    return SWIMMessage(
      sender: try label(&g), registryDigest: g.next(), body: body, rumors: try (0..<g.below(5)).map { _ in try rumor(&g) })
  }

  @Test func `a message is what its encoding says`() throws {
    var g = SeededGenerator(seed: 3)
    for _ in 0..<500 {
      let message = try Self.message(&g)
      #expect(try SWIMMessage(decoding: message.encoded()) == message)
    }
  }

  @Test func `a truncated, extended or damaged message is an error or another message, never a trap`() throws {
    var g = SeededGenerator(seed: 4)
    for _ in 0..<100 {
      let bytes = try Self.message(&g).encoded()
      for count in 0..<bytes.count { #expect(throws: ByteError.self) { try SWIMMessage(decoding: bytes[..<count]) } }
      #expect(throws: ByteError.trailing) { try SWIMMessage(decoding: bytes + [0]) }
      var damaged = bytes
      damaged[g.index(below: bytes.count)] ^= UInt8(1 + g.below(255))
      _ = try? SWIMMessage(decoding: damaged)
    }
  }

  @Test func `random bytes never trap`() {
    var g = SeededGenerator(seed: 5)
    for _ in 0..<5000 {
      var bytes = (0..<g.below(80)).map { _ in UInt8(truncatingIfNeeded: g.next()) }
      if g.chance(0.7), bytes.count > 3 { bytes.replaceSubrange(0..<3, with: [1, 1, 0x61]) }
      _ = try? SWIMMessage(decoding: bytes)
      _ = try? RegistryMessage(decoding: bytes)
      _ = try? Row(payload: bytes)
    }
  }
}
