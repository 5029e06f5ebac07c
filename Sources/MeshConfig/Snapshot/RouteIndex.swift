import Primitives

/// The alternatives of a virtual host's routes by what they ask of the path, so that a request meets only those that its path
/// can fulfil, in the order in which they were written.
public final class RouteIndex: Sendable {
  /// One alternative; `match` is nil for a route without conditions.
  public struct Alternative: Sendable {
    public let route: Int
    public let match: Int?

    public init(route: Int, match: Int?) {
      self.route = route
      self.match = match
    }
  }

  private let alternatives: [Alternative]
  /// Exact paths, case folded, with where their alternatives are in `groups`.
  private let exact: ByteTable<Int>
  private let groups: [[Int32]]
  private let prefixes: PrefixTree
  /// Alternatives that look at the path by a pattern, or not at all.
  private let others: [Int32]

  /// Fewer alternatives are as fast one after the other.
  private static let alternativesMin = 8

  /// nil when looking at one after the other is as good.
  public init?(_ routes: [Route]) {
    let count = routes.reduce(0) { $0 + max(1, $1.matches.count) }
    guard count >= Self.alternativesMin else { return nil }
    var alternatives: [Alternative] = []
    var exact: [[UInt8]: [Int32]] = [:]
    var prefixes: [[UInt8]: [Int32]] = [:]
    var others: [Int32] = []
    for (route, written) in routes.enumerated() {
      if written.matches.isEmpty {
        others.append(Int32(clamping: alternatives.count))
        alternatives.append(Alternative(route: route, match: nil))
      }
      for (match, condition) in written.matches.enumerated() {
        let number = Int32(clamping: alternatives.count)
        switch condition.path {
        case .exact(let path): exact[path.map(ASCII.lowercased), default: []].append(number)
        case .prefix(let prefix) where !prefix.isEmpty: prefixes[prefix.map(ASCII.lowercased), default: []].append(number)
        case .segmentPrefix(let prefix):
          let whole = prefix.last == 0x2F ? prefix.dropLast() : prefix[...]
          if whole.isEmpty { others.append(number) } else { prefixes[whole.map(ASCII.lowercased), default: []].append(number) }
        case .prefix, .regex, nil: others.append(number)
        }
        alternatives.append(Alternative(route: route, match: match))
      }
    }
    guard others.count <= count / 2 else { return nil }
    self.alternatives = alternatives
    let paths = exact.keys.sorted { $0.lexicographicallyPrecedes($1) }
    self.exact = ByteTable(paths.enumerated().map { (key: $0.element, value: $0.offset) })
    groups = paths.map { exact[$0] ?? [] }
    self.prefixes = PrefixTree(prefixes)
    self.others = others
  }

  /// Calls `body` with the alternatives that `path` can fulfil, in their order, until it returns true. Returns the one it ended
  /// with.
  public func first(for path: Span<UInt8>, where body: (Alternative) -> Bool) -> Alternative? {
    let group = exact[path]
    let prefix = prefixes.longest(of: path)
    var floor: Int32 = 0
    while let number = next(from: floor, group, prefix) {
      let alternative = alternatives[Int(number)]
      if body(alternative) { return alternative }
      floor = number + 1
    }
    return nil
  }

  private func next(from floor: Int32, _ group: Int?, _ prefix: Int?) -> Int32? {
    var nearest = Self.first(of: others, from: floor)
    func offer(_ number: Int32?) { if let number, number < nearest ?? .max { nearest = number } }
    if let group { offer(Self.first(of: groups[group], from: floor)) }
    var node = prefix
    while let current = node {
      offer(Self.first(of: prefixes.nodes[current].alternatives, from: floor))
      node = prefixes.nodes[current].parent
    }
    return nearest
  }

  /// The first number of an ascending list that is at least `floor`.
  private static func first(of numbers: [Int32], from floor: Int32) -> Int32? {
    var low = 0
    var high = numbers.count
    while low < high {
      let middle = (low + high) / 2
      if numbers[middle] < floor { low = middle + 1 } else { high = middle }
    }
    return low < numbers.count ? numbers[low] : nil
  }
}

/// Prefixes in order, each with the next shorter one that it begins with: the prefixes of a path are a chain of these.
struct PrefixTree: Sendable {
  struct Node: Sendable {
    let prefix: [UInt8]
    let parent: Int?
    let alternatives: [Int32]
  }

  let nodes: [Node]

  /// - Parameter prefixes: in lower case, not empty.
  init(_ prefixes: [[UInt8]: [Int32]]) {
    var nodes: [Node] = []
    for prefix in prefixes.keys.sorted(by: { $0.lexicographicallyPrecedes($1) }) {
      var parent = nodes.indices.last
      while let candidate = parent, !prefix.starts(with: nodes[candidate].prefix) { parent = nodes[candidate].parent }
      nodes.append(Node(prefix: prefix, parent: parent, alternatives: prefixes[prefix] ?? []))
    }
    self.nodes = nodes
  }

  /// The longest prefix that `path` begins with, whatever its case.
  func longest(of path: Span<UInt8>) -> Int? {
    // The last one that is not greater than the path begins with every prefix of it that there is.
    var low = 0
    var high = nodes.count
    while low < high {
      let middle = (low + high) / 2
      if Self.isGreater(nodes[middle].prefix, path) { high = middle } else { low = middle + 1 }
    }
    var found: Int? = low > 0 ? low - 1 : nil
    while let node = found, !Self.begins(path, with: nodes[node].prefix) { found = nodes[node].parent }
    return found
  }

  private static func isGreater(_ prefix: [UInt8], _ path: Span<UInt8>) -> Bool {
    for index in 0..<min(prefix.count, path.count) {
      let byte = ASCII.lowercased(path[index])
      if prefix[index] != byte { return prefix[index] > byte }
    }
    return prefix.count > path.count
  }

  private static func begins(_ path: Span<UInt8>, with prefix: [UInt8]) -> Bool {
    guard path.count >= prefix.count else { return false }
    for index in prefix.indices where ASCII.lowercased(path[index]) != prefix[index] { return false }
    return true
  }
}
