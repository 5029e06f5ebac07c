/// Host names of rules: short names, wildcards, and which is the more specific (Istio, general rules). All lower case.
enum HostName {
  /// A short name is completed with the namespace of the rule that writes it; anything with a dot stays.
  static func resolve(_ host: String, namespace: String, domain: String) -> String {
    let lowered = host.lowercased()
    if lowered.utf8.contains(0x2E) || lowered.hasPrefix("*") || AddressForm.isAddress(lowered) {
      return lowered.hasSuffix(".") ? String(lowered.dropLast()) : lowered
    }
    return "\(lowered).\(namespace).svc.\(domain)"
  }

  /// Whether the host or wildcard `pattern` matches every name that `host` (itself perhaps a wildcard) stands for.
  static func covers(_ pattern: String, _ host: String) -> Bool {
    guard pattern.hasPrefix("*") else { return pattern == host }
    let suffix = pattern.utf8.dropFirst()
    let name = host.hasPrefix("*") ? host.utf8.dropFirst() : host.utf8[...]
    guard name.count >= suffix.count else { return false }
    return name.suffix(suffix.count).elementsEqual(suffix)
      && (host.hasPrefix("*") || name.count > suffix.count || suffix.isEmpty)
  }

  /// Whether some name is matched by both.
  static func overlap(_ a: String, _ b: String) -> Bool { covers(a, b) || covers(b, a) }

  /// Exact names first, then the longest wildcard, then bytes.
  static func isMoreSpecific(_ a: String, _ b: String) -> Bool {
    let wildcards = (a.hasPrefix("*"), b.hasPrefix("*"))
    if wildcards.0 != wildcards.1 { return !wildcards.0 }
    if wildcards.0 && a.utf8.count != b.utf8.count { return a.utf8.count > b.utf8.count }
    return a.utf8.lexicographicallyPrecedes(b.utf8)
  }
}
