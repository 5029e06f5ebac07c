import Primitives

/// Wildcard host names by what they end in. The cost of a look-up depends on how many lengths they have, not on how many they are.
public struct SuffixIndex: Sendable {
  /// Keys in lower case; `*` has the empty key.
  private let values: ByteTable<Int>
  /// Longest first; the bare `*` is not among them.
  private let lengths: [Length]
  private let everything: Int?

  private struct Length: Sendable {
    let count: Int
    /// Whether all suffixes of this length begin with a dot.
    let isDotted: Bool
  }

  /// - Parameter suffixes: such as `.example.com`, or empty for `*`; the first of equal ones counts.
  public init(_ suffixes: [(suffix: [UInt8], value: Int)]) {
    values = ByteTable(suffixes.map { (key: $0.suffix, value: $0.value) })
    everything = suffixes.first { $0.suffix.isEmpty }?.value
    var dotted: [Int: Bool] = [:]
    for (suffix, _) in suffixes where !suffix.isEmpty {
      dotted[suffix.count] = (dotted[suffix.count] ?? true) && suffix[0] == 0x2E
    }
    lengths = dotted.keys.sorted(by: >).map { Length(count: $0, isDotted: dotted[$0] ?? false) }
  }

  /// The value of the longest suffix before which something stands in `host`.
  public func value(for host: Span<UInt8>) -> Int? {
    var lookups = 0
    return value(for: host, lookups: &lookups)
  }

  /// - Parameter lookups: counts the keys that were compared.
  func value(for host: Span<UInt8>, lookups: inout Int) -> Int? {
    for length in lengths where length.count < host.count {
      let start = host.count - length.count
      if length.isDotted && host[start] != 0x2E { continue }
      lookups += 1
      if let value = values[host.extracting(start..<host.count)] { return value }
    }
    return everything
  }
}

/// Host names and wildcards, of which one is looked up without looking at the others.
public struct HostSet: Sendable {
  private let exact: ByteTable<Bool>
  private let suffixes: SuffixIndex
  public let isEmpty: Bool

  /// - Parameter patterns: in lower case; `*.example.com` stands for what ends in `.example.com`, `*` for everything.
  public init(_ patterns: [String]) {
    let (wildcards, names) = (patterns.filter { $0.hasPrefix("*") }, patterns.filter { !$0.hasPrefix("*") })
    exact = ByteTable(names.map { (key: Array($0.utf8), value: true) })
    suffixes = SuffixIndex(wildcards.map { (suffix: Array($0.utf8.dropFirst()), value: 0) })
    isEmpty = patterns.isEmpty
  }

  public func contains(_ host: Span<UInt8>) -> Bool { exact[host] != nil || suffixes.value(for: host) != nil }
}
