import Primitives

/// Tells datagrams seen before from new ones. Each sender numbers its datagrams from its start on; a captured datagram that is
/// sent again is neither new in its life nor of a newer life (RFC 4303 §3.4.3, with the life in front).
public struct ReplayWindow: Hashable, Sendable {
  /// Where a datagram stands in its sender's life.
  public struct Mark: Hashable, Sendable {
    /// Start of the sender's process: the incarnation it started with.
    public let life: UInt64
    public let number: UInt64

    public init(life: UInt64, number: UInt64) {
      self.life = life
      self.number = number
    }
  }

  private struct Seen: Hashable, Sendable {
    var life: UInt64
    var highest: UInt64
    /// Bit n: `highest` − n was seen.
    var bits: UInt64
  }

  private var senders: [NodeName: Seen] = [:]

  public init() {}

  /// Whether the datagram is new; it is remembered.
  public mutating func accepts(_ mark: Mark, from sender: NodeName) -> Bool {
    guard var seen = senders[sender] else {
      // As many as there can be members; beyond it nobody new is believed until somebody is forgotten.
      guard senders.count < MembershipLimits.membersMax else { return false }
      senders[sender] = Seen(life: mark.life, highest: mark.number, bits: 1)
      return true
    }
    if mark.life != seen.life {
      guard mark.life > seen.life else { return false }
      senders[sender] = Seen(life: mark.life, highest: mark.number, bits: 1)
      return true
    }
    if mark.number > seen.highest {
      let step = mark.number &- seen.highest
      seen.bits = step < 64 ? seen.bits << step | 1 : 1
      seen.highest = mark.number
    } else {
      let age = seen.highest &- mark.number
      guard age < 64, seen.bits & (1 << age) == 0 else { return false }
      seen.bits |= 1 << age
    }
    senders[sender] = seen
    return true
  }

  public mutating func forget(_ sender: NodeName) { senders[sender] = nil }
}
