/// Lists of localities as `distribute` writes them: `region/zone/subzone`, of which the end may be missing or `*`.
enum LocalityForm {
  /// Whether `a` has more parts than `b`: the narrower of two that overlap.
  static func isNarrower(_ a: String, _ b: String) -> Bool { depth(a) > depth(b) }

  private static func depth(_ locality: String) -> Int { locality.split(separator: "/").count { $0 != "*" } }

  /// What is wrong with localities that have to exclude each other (Istio, `validateLocalities`); nil when nothing is.
  static func problem(of localities: [String]) -> String? {
    var earlier: [[Substring]] = []
    for locality in localities {
      let parts = locality.split(separator: "/", maxSplits: 2, omittingEmptySubsequences: false)
      if parts.contains(where: \.isEmpty) { return "'\(locality.prefix(80))' has an empty region, zone or subzone" }
      let stars = locality.utf8.count { $0 == 0x2A }
      if stars > 1 || stars == 1 && !locality.hasSuffix("*") {
        return "'\(locality.prefix(80))': one '*' may stand, at the end"
      }
      let own = parts.last == "*" ? parts.dropLast() : parts[...]
      if earlier.contains(where: { own.starts(with: $0) }) {
        return "'\(locality.prefix(80))' is covered by one before it"
      }
      earlier.append(Array(own))
    }
    return nil
  }
}
