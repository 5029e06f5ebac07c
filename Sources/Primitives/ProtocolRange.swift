/// The versions of a protocol that a node speaks, both bounds inclusive.
public struct ProtocolRange: Hashable, Sendable {
  public let min: UInt16
  public let max: UInt16

  public init(_ versions: ClosedRange<UInt16>) {
    min = versions.lowerBound
    max = versions.upperBound
  }

  /// The highest version that both speak, or nil when there is none.
  public func common(with other: ProtocolRange) -> UInt16? {
    let highest = Swift.min(max, other.max)
    return highest >= Swift.max(min, other.min) ? highest : nil
  }
}

extension ByteReader {
  /// Two 16-bit bounds; those in the wrong order are malformed.
  public mutating func protocolRange() throws(ByteError) -> ProtocolRange {
    let lowest = try uint16()
    let highest = try uint16()
    guard lowest <= highest else { throw .malformed }
    return ProtocolRange(lowest...highest)
  }
}
