/// A Raft term: a logical clock in which at most one leader is elected (Raft thesis §3.3).
public struct Term: Hashable, Comparable, Sendable, CustomStringConvertible {
  public let number: UInt64

  public init(_ number: UInt64) { self.number = number }
  /// Before the first election.
  public static let zero = Term(0)

  /// The following term, or nil when terms are used up: a server then stands in no election.
  var next: Term? { number < ConsensusLimits.numberMax ? Term(number &+ 1) : nil }

  public static func < (a: Term, b: Term) -> Bool { a.number < b.number }
  public var description: String { "\(number)" }
}

/// A position in the Raft log; the first entry is at 1.
public struct LogIndex: Hashable, Comparable, Sendable, CustomStringConvertible {
  public let number: UInt64

  public init(_ number: UInt64) { self.number = number }
  /// Before the first entry.
  public static let zero = LogIndex(0)

  public var next: LogIndex { advanced(by: 1) }
  /// The index before this one; zero's is zero.
  public var previous: LogIndex { LogIndex(number > 0 ? number &- 1 : 0) }

  /// Saturates at the end of the range.
  public func advanced(by count: Int) -> LogIndex {
    let (sum, overflow) = number.addingReportingOverflow(UInt64(max(0, count)))
    return LogIndex(overflow ? .max : sum)
  }
  /// How many indexes lie from `start` to this one; 0 when it lies before.
  func distance(from start: LogIndex) -> Int {
    self > start ? Int(clamping: number &- start.number) : 0
  }

  public static func < (a: LogIndex, b: LogIndex) -> Bool { a.number < b.number }
  public var description: String { "\(number)" }
}

/// What names one entry for ever: two logs that hold the same position are the same up to it (Raft thesis §3.5).
public struct LogPosition: Hashable, Sendable, CustomStringConvertible {
  public let index: LogIndex
  public let term: Term

  public init(index: LogIndex, term: Term) {
    self.index = index
    self.term = term
  }
  /// Before the first entry.
  public static let zero = LogPosition(index: .zero, term: .zero)
  public var description: String { "\(index)@\(term)" }
}
